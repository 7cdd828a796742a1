"""What the official Python client sees of a lab; prints one JSON object."""

import json
import time

from kubernetes import client, config, watch
from kubernetes.stream import stream

config.load_kube_config()
core = client.CoreV1Api()
apps = client.AppsV1Api()

metadata = client.V1ObjectMeta(generate_name="python-")
made = core.create_namespaced_config_map("default", client.V1ConfigMap(metadata=metadata, data={"a": "1"}))
patched = core.patch_namespaced_config_map(made.metadata.name, "default", {"data": {"b": "2"}})

pods = core.list_namespaced_pod("default", label_selector="app=web")
names = [pod.metadata.name for pod in pods.items]

apps.patch_namespaced_deployment_scale("web", "default", {"spec": {"replicas": 3}})
deadline = time.monotonic() + 20
ready = 0
for event in watch.Watch().stream(apps.list_namespaced_deployment, "default", timeout_seconds=20):
    ready = event["object"].status.ready_replicas or 0
    if ready == 3 or time.monotonic() > deadline:
        break

words = stream(
    core.connect_get_namespaced_pod_exec, names[0], "default",
    command=["sh", "-c", "echo out; echo err >&2"], stderr=True, stdout=True, stdin=False, tty=False,
)
try:
    core.read_namespaced_pod("none", "default")
    missing = None
except client.ApiException as error:
    missing = [error.status, json.loads(error.body)["reason"]]

print(json.dumps({
    "version": client.VersionApi().get_code().minor,
    "data": patched.data,
    "pods": len(names),
    "ready": ready,
    "exec": sorted(words.split()),
    "missing": missing,
    "nodes": [node.metadata.name for node in core.list_node().items],
}))
