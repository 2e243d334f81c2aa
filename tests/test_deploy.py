"""The files of `deploy/` and the Dockerfile: valid, not published, without secrets or root."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import ray
import yaml
from ray.scripts.scripts import drain_node

from supersnn.config_model import parse
from tests.support import kuberay_schema
from tune.description.overrides import parse_override, with_override
from tune.description.sweep import SweepConfig

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
KUBERNETES = "1.34.0"
GPU = "nvidia.com/gpu"
RESTRICTED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
HEALTHY, HEAD_HEALTHY = ("/api/local_raylet_healthz", 52365), ("/api/gcs_healthz", 8265)
"""Where KubeRay's own probes look: the agent of each node, and the head's dashboard."""


def documents() -> Iterator[Any]:
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml")):
        for number, document in enumerate(yaml.safe_load_all(path.read_text(encoding="utf-8"))):
            yield pytest.param(document, id=f"{path.stem}-{number}")


def ray_clusters() -> dict[str, dict[str, Any]]:
    cluster = yaml.safe_load((DEPLOY / "kubernetes/raycluster.yaml").read_text(encoding="utf-8"))
    job = yaml.safe_load((DEPLOY / "kubernetes/rayjob.yaml").read_text(encoding="utf-8"))
    return {"raycluster": cluster["spec"], "rayjob": job["spec"]["rayClusterSpec"]}


def pod_templates(document: dict[str, Any]) -> list[dict[str, Any]]:
    spec = document.get("spec", {})
    cluster = spec.get("rayClusterSpec", spec)
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]] if "headGroupSpec" in cluster else [spec]
    return [group["template"] for group in groups if "template" in group]


@pytest.mark.parametrize("document", list(documents()))
def test_kubernetes_documents_are_valid(document: dict[str, Any]) -> None:
    if document["apiVersion"] != "ray.io/v1":
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    for template in pod_templates(document):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", **template["metadata"]}}
        kubernetes_validate.validate({**pod, "spec": template["spec"]}, KUBERNETES, strict=True)


@pytest.mark.parametrize("document", list(documents()))
def test_kuberay_documents_are_valid(document: dict[str, Any]) -> None:
    if document["apiVersion"] == "ray.io/v1":
        jsonschema.validate(document["spec"], kuberay_schema.RESOURCES[document["kind"]])


@pytest.mark.parametrize(
    "wrong",
    [
        {"headGroupSpec": {"template": {}, "rayStartParams": {"num-cpus": 0}}},
        {"headGroupSpec": {"template": {}}, "workerGroupSpecs": [{"groupName": "gpu", "template": {}}]},
        {"headGroupSpec": {"template": {}}, "autoscalerOptions": {"securitycontext": {}}},
        {"headGroupSpec": {"template": {}}, "authOptions": {"mode": "none"}},
    ],
)
def test_the_schema_refuses_what_kuberay_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, kuberay_schema.CLUSTER)


@pytest.mark.parametrize("name", ["raycluster", "rayjob"])
def test_clusters_fit_this_version_of_ray(name: str) -> None:
    cluster = ray_clusters()[name]
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    assert cluster["rayVersion"] == ray.__version__
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


@pytest.mark.parametrize("name", ["raycluster", "rayjob"])
def test_the_autoscaler_is_a_restricted_container(name: str) -> None:
    cluster = ray_clusters()[name]
    if not cluster.get("enableInTreeAutoscaling"):
        return
    known = ("resources", "securityContext", "env", "envFrom", "volumeMounts", "command", "args")
    options = {key: value for key, value in cluster["autoscalerOptions"].items() if key in known}
    container = {"name": "autoscaler", "image": "ray", **options}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"containers": [container]}}
    kubernetes_validate.validate(pod, KUBERNETES, strict=True)
    assert options["securityContext"] == RESTRICTED


@pytest.mark.parametrize("name", ["raycluster", "rayjob"])
def test_a_node_is_probed_itself_and_drained_before_it_ends(name: str) -> None:
    """A worker's probes ask its own raylet: a head that is away restarts no worker. Nothing starts a process."""
    cluster = ray_clusters()[name]
    (head,) = cluster["headGroupSpec"]["template"]["spec"]["containers"]
    assert [probe(head, kind) for kind in PROBES] == [HEALTHY, HEAD_HEALTHY, HEALTHY]
    for group in cluster["workerGroupSpecs"]:
        spec = group["template"]["spec"]
        (worker,) = spec["containers"]
        assert [probe(worker, kind) for kind in PROBES] == [HEALTHY] * 3
        command = shlex.split(worker["lifecycle"]["preStop"]["exec"]["command"][-1].replace("$RAY_ADDRESS", "a:1"))
        assert command[:2] == ["ray", "drain-node"]
        options = drain_node.make_context("drain-node", command[2:]).params
        assert options["reason"] == "DRAIN_NODE_REASON_PREEMPTION"
        assert options["deadline_remaining_seconds"] < spec["terminationGracePeriodSeconds"]
        if GPU in worker["resources"]["limits"]:
            assert {"key": GPU, "operator": "Exists", "effect": "NoSchedule"} in spec["tolerations"]


PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def probe(container: dict[str, Any], kind: str) -> tuple[str, int]:
    """Return where a container is probed."""
    found = container[kind]
    assert found["timeoutSeconds"] >= 5, "without the head the agent takes a second to answer"
    return found["httpGet"]["path"], found["httpGet"]["port"]


@pytest.mark.parametrize("document", list(documents()))
def test_pods_have_limits_and_probes_and_are_not_root(document: dict[str, Any]) -> None:
    for template in pod_templates(document):
        spec = template["spec"]
        assert template["metadata"]["labels"]["app.kubernetes.io/part-of"] == "supersnn", "the network policy needs it"
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        for container in spec["containers"]:
            assert {"cpu", "memory"} <= container["resources"]["limits"].keys()
            assert container["securityContext"] == RESTRICTED
            assert "livenessProbe" in container
            assert "readinessProbe" in container


@pytest.mark.parametrize("document", list(documents()))
def test_nothing_is_published_outside_the_cluster(document: dict[str, Any]) -> None:
    assert document["kind"] not in ("Ingress", "Secret")
    if document["kind"] == "Service":
        assert document["spec"].get("type", "ClusterIP") == "ClusterIP"


def test_secrets_come_from_a_secret_or_the_environment() -> None:
    for path in DEPLOY.rglob("*.yaml"):
        text = "\n".join(line.partition(" #")[0] for line in path.read_text(encoding="utf-8").splitlines())
        text = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
        for line in re.findall(r".*(?i:password|token|secret).*", text):
            metadata = r"api/token|\$token"  # of a machine's own metadata service, for a minute
            harmless = rf"\$\{{|secretKeyRef|mode: token|MODE: token|automountServiceAccountToken|{metadata}"
            assert re.search(harmless, line), f"{path.name}: {line}"


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    return loaded


@pytest.mark.parametrize("name", ["postgres", "mlflow", "head", "worker"])
def test_services_have_limits_and_checks_and_are_not_root_or_published(name: str) -> None:
    service = compose()["services"][name]
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["healthcheck"]["test"][1] != "ray", "takes two seconds of CPU, and asks the head"
    assert {"cpus", "memory"} <= service["deploy"]["resources"]["limits"].keys()
    assert service["user"] not in ("root", "0", "0:0")
    assert service["cap_drop"] == ["ALL"]
    assert "ports" not in service
    assert "network_mode" not in service


@pytest.mark.parametrize("name", ["head", "worker"])
def test_the_agent_is_asked_for_the_health_of_a_node(name: str) -> None:
    program = compose()["services"][name]["healthcheck"]["test"]
    assert program[1:3] == ["python", "-c"]
    assert f":{HEALTHY[1]}{HEALTHY[0]}'" in program[3]


def test_compose_declares_what_it_uses() -> None:
    file = compose()
    for service in file["services"].values():
        assert {volume.partition(":")[0] for volume in service["volumes"]} <= file["volumes"].keys()
        assert service.get("depends_on", {}).keys() <= file["services"].keys()
        assert {config["source"] for config in service.get("configs", ())} <= file["configs"].keys()


def test_ray_launcher_file_is_valid() -> None:
    schema = json.loads((Path(ray.__file__).parent / "autoscaler/ray-schema.json").read_text(encoding="utf-8"))
    described = yaml.safe_load((DEPLOY / "ray-cluster.yaml").read_text(encoding="utf-8"))
    jsonschema.validate(described, schema)
    assert described["head_node_type"] in described["available_node_types"]
    assert "--user=1000:1000" in described["docker"]["run_options"]
    assert described["provider"]["use_internal_ips"] is True


HOST = {
    "systemctl": "exit 3",
    "sudo": 'exec "$@"',
    "systemd-run": 'shift 2; exec "$@"',
    "sleep": "exit 0",
    "curl": 'echo "curl $*" >> "$CALLS"; [[ "$*" = *PUT* ]] && echo secret || [ $(wc -l < "$CALLS") -gt 5 ]',
    "docker": 'echo "docker $*" >> "$CALLS"; [ $(grep -c docker "$CALLS") -gt 1 ]',
}
"""Stand-ins for a machine's commands: the notice comes with the third question, and the container a little later."""


def test_a_spot_notice_drains_the_machines_node(tmp_path: Path) -> None:
    described = yaml.safe_load((DEPLOY / "ray-cluster.yaml").read_text(encoding="utf-8"))
    in_containers = [text for key, lines in described.items() if key.endswith("setup_commands") for text in lines]
    assert not [text for text in in_containers if "docker" in text], "the container has none"
    (command,) = (text for text in described["initialization_commands"] if "docker" in text)
    assert "RAY_HEAD_IP" not in command, "Ray sets it for the commands that start Ray alone"
    assert "${" not in command, "systemd would replace it"
    for name, script in HOST.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{script}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    calls = tmp_path / "calls"
    calls.touch()
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(calls)}
    subprocess.run(["bash", "-c", f"({command})"], env=environment, check=True, timeout=30)
    asked, drained = (
        [line for line in calls.read_text(encoding="utf-8").splitlines() if line.startswith(name)]
        for name in ("curl", "docker")
    )
    assert len(asked) == 6, "a token before each question"
    assert asked[-1].endswith(
        "X-aws-ec2-metadata-token: secret http://169.254.169.254/latest/meta-data/spot/instance-action"
    )
    assert len(drained) == 2, "the container may still be starting"
    (executed,) = {shlex.join(shlex.split(line)[:5]) for line in drained}
    assert executed == f"docker exec {described['docker']['container_name']} ray drain-node"
    options = drain_node.make_context("drain-node", shlex.split(drained[0].replace("spot notice", "spot"))[5:]).params
    assert options["reason"] == "DRAIN_NODE_REASON_PREEMPTION"
    assert options["deadline_remaining_seconds"] < 120


@pytest.mark.parametrize("name", ["raycluster", "rayjob"])
def test_all_nodes_of_a_cluster_have_one_image(name: str) -> None:
    cluster = ray_clusters()[name]
    groups = (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])
    assert len({pod["image"] for group in groups for pod in group["template"]["spec"]["containers"]}) == 1


def test_the_image_has_what_a_gpu_and_rays_launcher_need() -> None:
    stage = (ROOT / "Dockerfile").read_text(encoding="utf-8").rpartition("FROM ${BASE}")[2]
    installed = re.findall(r"apt-get install --yes --no-install-recommends (.*) \\", stage)[0].split()
    assert installed == ["gcc", "libc6-dev", "rsync"]
    assert any(line.startswith("boto3==") for line in constraints())


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    linted = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert linted.returncode == 0, linted.stdout


def test_the_image_has_every_module_and_pins_every_dependency() -> None:
    import tomllib

    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["packages"]["find"]["include"]
    packages = [path.parent.name for pattern in patterns for path in ROOT.glob(f"{pattern}/__init__.py")]
    assert "supersnn_cli" in packages
    for package in packages:
        assert f"COPY {package} /source/{package}\n" in dockerfile
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in constraints()}
    assert "'/source[cluster,gpu]'" in dockerfile
    extras = project["project"]["optional-dependencies"]
    wanted = [*project["project"]["dependencies"], *extras["cluster"], *extras["gpu"]]
    assert {re.split(r"[\[<>=]", name)[0].lower() for name in wanted} <= pinned


def test_the_session_on_a_gpu_runs_a_pack_and_sets_nothing_that_a_sweep_must_set_itself() -> None:
    script = DEPLOY / "gpu_session.sh"
    checked = subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    text = script.read_text(encoding="utf-8")
    assert "CUBLAS_WORKSPACE_CONFIG" not in text
    data = yaml.safe_load((ROOT / "configs/digits.yaml").read_text(encoding="utf-8"))
    for value in re.findall(r"--set (\S+)", text):
        data = with_override(data, *parse_override(value))
    sweep = parse(SweepConfig, data, "digits.yaml")
    assert (sweep.resources.pack, sweep.search.trials) == (4, 4)


def test_constraints_are_plain_pins() -> None:
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!]+", line) for line in constraints())


def constraints() -> list[str]:
    return (DEPLOY / "constraints.txt").read_text(encoding="utf-8").splitlines()
