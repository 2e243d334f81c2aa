"""What probes a node, on a real one: its agent answers for its own raylet, whether or not the head is there."""

import time
import urllib.request
from collections.abc import Callable

from ray.cluster_utils import Cluster

from tests.support.driver import ON_A_CLUSTER
from tests.support.servers import free_port
from tests.test_deploy import HEALTHY

pytestmark = ON_A_CLUSTER


def answers(port: int) -> bool:
    """Return whether a probe of the agent at a port succeeds within the probes' five seconds."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{HEALTHY[0]}", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def wait_for(reached: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(1)


def test_a_node_is_healthy_without_its_head_and_not_without_its_raylet() -> None:
    """The head has no dashboard, as in the compose file."""
    ports = [free_port(), free_port()]
    start = {"num_cpus": 0, "include_dashboard": False, "dashboard_agent_listen_port": ports[0]}
    cluster = Cluster(initialize_head=True, head_node_args=start)
    try:
        worker = cluster.add_node(num_cpus=1, dashboard_agent_listen_port=ports[1])
        for port in ports:
            wait_for(lambda port=port: answers(port))  # type: ignore[misc]
        cluster.head_node.kill_gcs_server()
        for _ in range(5):
            assert answers(ports[1])
            time.sleep(1)
        worker.kill_raylet()
        wait_for(lambda: not answers(ports[1]))
    finally:
        cluster.shutdown()
