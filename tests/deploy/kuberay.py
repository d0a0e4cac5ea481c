"""The fields of KubeRay's resources, written down from its API reference (v1.6), as JSON schemas.

https://docs.ray.io/en/master/cluster/kubernetes/references/api.html for what is of KubeRay, and
https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/ for the part of a pod that we use.
A field that is not here may exist; ours are checked for their names, their places and their types.
"""

from __future__ import annotations

from typing import Any

TEXT, WHOLE, NUMBER, FLAG = ({"type": name} for name in ("string", "integer", "number", "boolean"))
TEXTS = {"type": "object", "additionalProperties": TEXT}
NAME = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}
QUANTITY = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$"}
QUANTITIES = {"type": "object", "additionalProperties": QUANTITY}


def exactly(required: dict[str, Any] | None = None, **optional: Any) -> dict[str, Any]:
    """An object with these fields and no others."""
    required = required or {}
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": [*required],
        "additionalProperties": False,
    }


def some(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": 1}


CONTAINER = exactly(
    {"name": NAME, "image": TEXT, "resources": exactly({"requests": QUANTITIES, "limits": QUANTITIES})},
    imagePullPolicy={"enum": ["Always", "IfNotPresent", "Never"]},
    ports=some(exactly({"containerPort": WHOLE}, name={**NAME, "maxLength": 15})),
    env=some(exactly({"name": TEXT}, value=TEXT, valueFrom={"type": "object"})),
    envFrom=some(exactly(secretRef=exactly({"name": NAME}, optional=FLAG))),
    volumeMounts=some(exactly({"name": NAME, "mountPath": TEXT}, readOnly=FLAG)),
)
POD = exactly(
    {
        "spec": exactly(
            {"containers": some(CONTAINER)},
            restartPolicy={"enum": ["Always", "OnFailure", "Never"]},
            nodeSelector=TEXTS,
            tolerations=some(
                exactly(
                    key=TEXT,
                    operator={"enum": ["Exists", "Equal"]},
                    value=TEXT,
                    effect={"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
                )
            ),
            serviceAccountName=NAME,
            volumes=some({"type": "object", "required": ["name"]}),
        )
    },
    metadata={"type": "object"},
)
CLUSTER_SPEC = exactly(
    {
        "headGroupSpec": exactly({"template": POD}, rayStartParams=TEXTS, serviceType=TEXT, labels=TEXTS),
        "rayVersion": {"type": "string", "pattern": r"^\d+\.\d+\.\d+$"},
    },
    enableInTreeAutoscaling=FLAG,
    autoscalerOptions=exactly(
        version={"enum": ["v1", "v2"]},
        idleTimeoutSeconds=WHOLE,
        upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
        resources={"type": "object"},
    ),
    authOptions=exactly(mode={"enum": ["disabled", "token"]}, secretName=NAME, enableK8sTokenAuth=FLAG),
    suspend=FLAG,
    workerGroupSpecs=some(
        exactly(
            {"groupName": NAME, "template": POD, "minReplicas": WHOLE, "maxReplicas": WHOLE},
            replicas=WHOLE,
            idleTimeoutSeconds=WHOLE,
            numOfHosts=WHOLE,
            rayStartParams=TEXTS,
            labels=TEXTS,
            scaleStrategy={"type": "object"},
        )
    ),
)
METADATA = exactly({"name": NAME}, namespace=NAME, labels=TEXTS, annotations=TEXTS)
RAY_CLUSTER = exactly(
    {
        "apiVersion": {"const": "ray.io/v1"},
        "kind": {"const": "RayCluster"},
        "metadata": METADATA,
        "spec": CLUSTER_SPEC,
    }
)
RAY_JOB = exactly(
    {
        "apiVersion": {"const": "ray.io/v1"},
        "kind": {"const": "RayJob"},
        "metadata": METADATA,
        "spec": exactly(
            {"entrypoint": TEXT, "rayClusterSpec": CLUSTER_SPEC},
            runtimeEnvYAML=TEXT,
            jobId=TEXT,
            submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
            backoffLimit=WHOLE,
            activeDeadlineSeconds=WHOLE,
            shutdownAfterJobFinishes=FLAG,
            ttlSecondsAfterFinished=WHOLE,
            entrypointNumCpus=NUMBER,
            entrypointNumGpus=NUMBER,
            entrypointResources=TEXT,
            metadata=TEXTS,
            suspend=FLAG,
            submitterPodTemplate=POD,
            submitterConfig=exactly(backoffLimit=WHOLE),
        ),
    }
)
