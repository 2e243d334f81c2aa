"""A JSON schema of the fields of KubeRay's RayCluster and RayJob (``ray.io/v1``) that a user sets, with their types.

Written from the public types of KubeRay 1.5 (``ray-operator/apis/ray/v1``), of which the cluster's own schemas are
generated; no copy of those can be had by Python's package index. Pods and containers are left to the schemas of
Kubernetes itself.
"""

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
NUMBER: Schema = {"type": "number", "minimum": 0}
TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}
QUANTITIES: Schema = {"type": "object", "additionalProperties": {"type": ["string", "integer", "number"]}}
ANY_OBJECT: Schema = {"type": "object"}
OBJECTS: Schema = {"type": "array", "items": ANY_OBJECT}


def one_of(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


def closed(fields: Mapping[str, Schema], required: tuple[str, ...] = ()) -> Schema:
    """Return the schema of an object with these fields and no other."""
    return {"type": "object", "properties": dict(fields), "required": list(required), "additionalProperties": False}


_GROUP = {"rayStartParams": TEXTS, "template": ANY_OBJECT, "resources": TEXTS, "labels": TEXTS}
HEAD = closed(
    {
        **_GROUP,
        "serviceType": one_of("ClusterIP", "NodePort", "LoadBalancer", "ExternalName"),
        "headService": ANY_OBJECT,
        "enableIngress": FLAG,
    },
    ("template",),
)
WORKERS = closed(
    {
        **_GROUP,
        "groupName": TEXT,
        "replicas": COUNT,
        "minReplicas": COUNT,
        "maxReplicas": COUNT,
        "numOfHosts": COUNT,
        "idleTimeoutSeconds": COUNT,
        "suspend": FLAG,
        "scaleStrategy": closed({"workersToDelete": {"type": "array", "items": TEXT}}),
    },
    ("groupName", "minReplicas", "maxReplicas", "template"),
)
AUTOSCALER = closed(
    {
        "resources": closed({"requests": QUANTITIES, "limits": QUANTITIES, "claims": OBJECTS}),
        "image": TEXT,
        "imagePullPolicy": one_of("Always", "IfNotPresent", "Never"),
        "env": OBJECTS,
        "envFrom": OBJECTS,
        "volumeMounts": OBJECTS,
        "securityContext": ANY_OBJECT,
        "idleTimeoutSeconds": COUNT,
        "upscalingMode": one_of("Default", "Aggressive", "Conservative"),
        "version": one_of("v1", "v2"),
        "command": {"type": "array", "items": TEXT},
        "args": {"type": "array", "items": TEXT},
    }
)
CLUSTER = closed(
    {
        "headGroupSpec": HEAD,
        "workerGroupSpecs": {"type": "array", "items": WORKERS},
        "rayVersion": TEXT,
        "authOptions": closed({"mode": one_of("disabled", "token")}),
        "enableInTreeAutoscaling": FLAG,
        "autoscalerOptions": AUTOSCALER,
        "headServiceAnnotations": TEXTS,
        "gcsFaultToleranceOptions": ANY_OBJECT,
        "suspend": FLAG,
        "managedBy": TEXT,
    },
    ("headGroupSpec",),
)
JOB = closed(
    {
        "rayClusterSpec": CLUSTER,
        "entrypoint": TEXT,
        "runtimeEnvYAML": TEXT,
        "jobId": TEXT,
        "submissionMode": one_of("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
        "entrypointNumCpus": NUMBER,
        "entrypointNumGpus": NUMBER,
        "entrypointResources": TEXT,
        "backoffLimit": COUNT,
        "activeDeadlineSeconds": {**COUNT, "minimum": 1},
        "shutdownAfterJobFinishes": FLAG,
        "ttlSecondsAfterFinished": COUNT,
        "deletionStrategy": ANY_OBJECT,
        "clusterSelector": TEXTS,
        "metadata": TEXTS,
        "submitterPodTemplate": ANY_OBJECT,
        "submitterConfig": closed({"backoffLimit": COUNT}),
        "managedBy": one_of("ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue"),
        "suspend": FLAG,
    }
)
RESOURCES = {"RayCluster": CLUSTER, "RayJob": JOB}
"""The schema of a resource's `spec`, by its kind."""
