"""A sweep's forecast on a cluster: a step is timed on one of its nodes."""

from pathlib import Path

from ray.cluster_utils import Cluster

from tests.support.cli import run_json
from tests.support.driver import ON_A_CLUSTER

pytestmark = ON_A_CLUSTER


def test_a_step_is_timed_on_a_node_of_the_cluster(cluster: Cluster, tiny: Path, tmp_path: Path) -> None:
    cluster.add_node(num_cpus=3)
    options = ("--dry-run", "--address", cluster.address, "--store", tmp_path / "store")
    found = run_json("sweep", tiny, *options)["forecast"]
    assert found["slots"] == 3
    assert found["hours"]["total"] > 0
    assert set(found["timed"]["epoch_s"]) == {"direct", "homogeneous", "heterogeneous"}
    assert not (tmp_path / "store").exists()
