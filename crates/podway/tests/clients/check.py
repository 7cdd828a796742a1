"""What the official Python client sees of a lab; prints one JSON object."""

import base64
import json
import time

import websocket
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


def socket(part, query, protocols):
    """The protocol that was chosen, and what came through it, by channels where there are some."""
    ours = core.api_client.configuration
    keys = {"ca_certs": ours.ssl_ca_cert, "certfile": ours.cert_file, "keyfile": ours.key_file}
    address = ours.host.replace("https", "wss") + f"/api/v1/namespaces/default/pods/{names[0]}/{part}?{query}"
    connection = websocket.create_connection(address, sslopt=keys, subprotocols=protocols)
    said = {}
    while True:
        code, message = connection.recv_data()
        if code == websocket.ABNF.OPCODE_CLOSE:
            return [connection.subprotocol, said]
        channel = ""
        if part == "exec":
            channel, message = message[0], message[1:]
        if code == websocket.ABNF.OPCODE_TEXT:
            channel, message = channel and channel - ord("0"), base64.b64decode(message)
        said[channel] = said.get(channel, "") + message.decode()


def exec_socket(protocols):
    protocol, said = socket("exec", "command=sh&command=-c&command=echo+out%3Bexit+3&stdout=1&stderr=1", protocols)
    end = said[3]
    return [protocol, said[1], json.loads(end)["message"] if end.startswith("{") else end]


versions = ["v5.channel.k8s.io", "v4.base64.channel.k8s.io", "channel.k8s.io", "base64.channel.k8s.io"]
sockets = [exec_socket([version]) for version in versions] + [exec_socket(None)]
logs = [socket("log", "tailLines=1", wanted) for wanted in [["binary.k8s.io"], ["base64.binary.k8s.io"], None]]
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
    "sockets": sockets,
    "logs": logs,
    "missing": missing,
    "nodes": [node.metadata.name for node in core.list_node().items],
}))
