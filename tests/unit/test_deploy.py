"""The container image and the manifests: well-formed, consistent, and shut to the outside."""

import re
from functools import cache
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
DEPLOY = REPOSITORY / "deploy"
KUBERAY = DEPLOY / "kuberay"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text("utf-8")

API_VERSIONS = {
    "Deployment": "apps/v1",
    "Namespace": "v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "PersistentVolumeClaim": "v1",
    "RayCluster": "ray.io/v1",
    "RayJob": "ray.io/v1",
    "Service": "v1",
    "StatefulSet": "apps/v1",
}
# Fields that the API server of Kubernetes, or KubeRay's CRDs, know; only those used here.
FIELDS = {
    "RayCluster.spec": "authOptions autoscalerOptions enableInTreeAutoscaling headGroupSpec "
    "rayVersion workerGroupSpecs",
    "RayJob.spec": "clusterSelector entrypoint submissionMode submitterPodTemplate",
    "authOptions": "enableK8sTokenAuth mode secretName",
    "autoscalerOptions": "idleTimeoutSeconds resources securityContext",
    "headGroupSpec": "rayStartParams serviceType template",
    "workerGroupSpec": "groupName maxReplicas minReplicas rayStartParams replicas template",
    "pod": "automountServiceAccountToken containers restartPolicy securityContext tolerations "
    "volumes",
    "container": "args env image name ports readinessProbe resources securityContext startupProbe "
    "volumeMounts",
    "NetworkPolicy.spec": "ingress podSelector policyTypes",
    "peer": "namespaceSelector podSelector",
}


def load(path):
    return [doc for doc in yaml.safe_load_all(path.read_text("utf-8")) if doc]


@cache
def objects():
    """Every object but the list of them."""
    paths = [p for p in sorted(KUBERAY.glob("*.yaml")) if p.name != "kustomization.yaml"]
    return [doc for path in paths for doc in load(path)]


def of_kind(kind):
    return [doc for doc in objects() if doc["kind"] == kind]


def one(kind, name=None):
    (found,) = [d for d in of_kind(kind) if name is None or d["metadata"].get("name") == name]
    return found


@cache
def pod_templates():
    """Name to template of every pod that the manifests start."""
    cluster, job = one("RayCluster")["spec"], one("RayJob")["spec"]
    found = {"head": cluster["headGroupSpec"]["template"]}
    found |= {group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]}
    found["submitter"] = job["submitterPodTemplate"]
    for doc in (*of_kind("Deployment"), *of_kind("StatefulSet")):
        found[doc["metadata"]["name"]] = doc["spec"]["template"]
    return found


def containers():
    return [c for template in pod_templates().values() for c in template["spec"]["containers"]]


def selects(selector, labels):
    return selector.get("matchLabels", {}).items() <= labels.items()


def unknown(kind, section):
    return set(section) - set(FIELDS[kind].split())


def test_kinds_versions_and_names():
    for doc in objects():
        assert doc["apiVersion"] == API_VERSIONS[doc["kind"]]
        metadata = doc["metadata"]
        name = metadata.get("name") or metadata["generateName"] + "x"
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?", name)
        if doc["kind"] != "Namespace":
            assert metadata["namespace"] == one("Namespace")["metadata"]["name"]


def test_the_list_names_every_file_but_the_job():
    (listed,) = load(KUBERAY / "kustomization.yaml")
    there = {path.name for path in KUBERAY.glob("*.yaml")}
    assert set(listed["resources"]) == there - {"kustomization.yaml", "pipeline.yaml"}


def test_only_fields_that_the_servers_know():
    cluster, job = one("RayCluster")["spec"], one("RayJob")["spec"]
    assert not unknown("RayCluster.spec", cluster)
    assert not unknown("RayJob.spec", job)
    assert not unknown("authOptions", cluster["authOptions"])
    assert not unknown("autoscalerOptions", cluster["autoscalerOptions"])
    assert not unknown("headGroupSpec", cluster["headGroupSpec"])
    assert not any(unknown("workerGroupSpec", group) for group in cluster["workerGroupSpecs"])
    assert not any(unknown("pod", template["spec"]) for template in pod_templates().values())
    assert not any(unknown("container", container) for container in containers())
    for policy in of_kind("NetworkPolicy"):
        assert not unknown("NetworkPolicy.spec", policy["spec"])
        for rule in policy["spec"].get("ingress", []):
            assert set(rule) <= {"from", "ports"}
            assert rule["from"] and not any(unknown("peer", peer) for peer in rule["from"])


@pytest.mark.parametrize("name", pod_templates())
def test_no_pod_runs_as_root_or_may_become_it(name):
    spec = pod_templates()[name]["spec"]
    context = spec["securityContext"]
    assert context["runAsNonRoot"] is True and context["runAsUser"] > 0
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }


def test_the_namespace_refuses_others():
    labels = one("Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_images_have_versions_and_erray_is_one_image():
    images = {container["image"] for container in containers()}
    assert len(images) == 2
    for image in images:
        tag = image.rpartition(":")[2]
        assert re.fullmatch(r"\d+\.\d+[\w.-]*", tag), image
    (erray,) = [image for image in images if "/erray:" in image]
    assert erray.endswith(f":{version('erray')}")


def test_every_container_says_what_it_takes():
    for container in containers():
        resources = container["resources"]
        assert {"cpu", "memory"} <= set(resources["requests"])
        assert "memory" in resources["limits"]
    (worker,) = one("RayCluster")["spec"]["workerGroupSpecs"]
    assert 1 <= worker["minReplicas"] <= worker["replicas"] < worker["maxReplicas"]
    (container,) = worker["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_volumes_and_ports_that_are_used_are_there():
    claims = {doc["metadata"]["name"] for doc in of_kind("PersistentVolumeClaim")}
    for name, template in pod_templates().items():
        volumes = {volume["name"]: volume for volume in template["spec"].get("volumes", [])}
        own = {"data"} if name == "postgres" else set()
        for container in template["spec"]["containers"]:
            mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
            assert mounted == set(volumes) | own
            ports = {port["name"] for port in container.get("ports", [])}
            for probe in ("startupProbe", "readinessProbe"):
                if "httpGet" in container.get(probe, {}):
                    assert container[probe]["httpGet"]["port"] in ports
        for volume in volumes.values():
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in claims


def test_selectors_find_their_pods():
    templates = pod_templates()
    for doc in (*of_kind("Deployment"), *of_kind("StatefulSet")):
        labels = doc["spec"]["template"]["metadata"]["labels"]
        assert doc["spec"]["selector"]["matchLabels"].items() <= labels.items()
    for service in of_kind("Service"):
        name = service["metadata"]["name"]
        assert service["spec"]["selector"].items() <= templates[name]["metadata"]["labels"].items()
        ports = {p["name"] for c in templates[name]["spec"]["containers"] for p in c["ports"]}
        assert all(port["targetPort"] in ports for port in service["spec"]["ports"])
        assert service["spec"].get("type", "ClusterIP") == "ClusterIP"
    assert one("StatefulSet")["spec"]["serviceName"] == "postgres"
    cluster = one("RayCluster")
    assert one("RayJob")["spec"]["clusterSelector"]["ray.io/cluster"] == cluster["metadata"]["name"]
    assert cluster["spec"]["headGroupSpec"]["serviceType"] == "ClusterIP"


def test_ray_asks_for_the_token_of_a_secret():
    spec = one("RayCluster")["spec"]
    assert spec["rayVersion"] == version("ray")
    assert spec["authOptions"]["mode"] == "token"
    (container,) = pod_templates()["submitter"]["spec"]["containers"]
    env = {entry["name"]: entry for entry in container["env"]}
    assert env["RAY_AUTH_MODE"]["value"] == "token"
    reference = env["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"]
    assert reference == {"name": spec["authOptions"]["secretName"], "key": "auth_token"}


def test_no_secret_lies_in_the_files():
    assert not of_kind("Secret")
    readme = (DEPLOY / "README.md").read_text("utf-8")
    for container in containers():
        for entry in container.get("env", []):
            if "valueFrom" in entry:
                assert entry["valueFrom"]["secretKeyRef"]["name"] in readme
            elif re.search("TOKEN|PASSWORD|KEY", entry["name"]):
                pytest.fail(f"{entry['name']} has a value in the file")
            else:
                assert not re.search(r"://[^$@]*:[^$@]+@", entry["value"])


def reachable(from_labels, from_namespace, to_labels):
    """Ports on which the policies let a pod call another; None among them: every port."""
    found = set()
    for policy in of_kind("NetworkPolicy"):
        spec = policy["spec"]
        assert spec["policyTypes"] == ["Ingress"]
        if not selects(spec["podSelector"], to_labels):
            continue
        for rule in spec.get("ingress", []):
            for peer in rule["from"]:
                space = peer.get("namespaceSelector", {}).get("matchLabels", {})
                wanted = space.get("kubernetes.io/metadata.name", "erray")
                if wanted == from_namespace and selects(peer["podSelector"], from_labels):
                    found |= {p["port"] for p in rule.get("ports", [{"port": None}])}
    return found


def labels_of(name):
    return pod_templates()[name]["metadata"]["labels"]


STRANGER = {"app.kubernetes.io/name": "stranger"}
OPERATOR = {"app.kubernetes.io/name": "kuberay-operator"}


@pytest.mark.parametrize("name", pod_templates())
def test_strangers_reach_nothing(name):
    (shut,) = [p for p in of_kind("NetworkPolicy") if p["spec"]["podSelector"] == {}]
    assert "ingress" not in shut["spec"], "every pod is chosen by a policy that lets nobody in"
    for namespace in ("erray", "default", "kuberay-system"):
        assert reachable(STRANGER, namespace, labels_of(name)) == set()
    # a label is not enough in another namespace: it is not the operator, nor a node of Ray
    assert reachable(OPERATOR, "default", labels_of(name)) == set()
    assert reachable(labels_of("gpu"), "default", labels_of(name)) == set()


@pytest.mark.parametrize(
    ("caller", "called", "ports"),
    [
        ("submitter", "head", {8265}),
        ("submitter", "gpu", set()),
        ("submitter", "mlflow", set()),
        ("gpu", "head", {None}),
        ("head", "gpu", {None}),
        ("head", "mlflow", {5000}),
        ("mlflow", "head", set()),
        ("mlflow", "postgres", {5432}),
        ("head", "postgres", set()),
        ("postgres", "mlflow", set()),
    ],
)
def test_who_may_call_whom(caller, called, ports):
    assert reachable(labels_of(caller), "erray", labels_of(called)) == ports


def test_the_operator_reaches_the_job_server_alone():
    assert reachable(OPERATOR, "kuberay-system", labels_of("head")) == {8265}
    assert reachable(OPERATOR, "kuberay-system", labels_of("gpu")) == set()


def instructions():
    """Instruction and rest of every line of the Dockerfile, continued lines joined."""
    joined = re.sub(r"\\\n\s*", "", re.sub(r"^\s*#.*\n", "", DOCKERFILE, flags=re.MULTILINE))
    return [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]


def test_the_image_starts_from_a_cuda_base_of_one_version():
    bases = [rest for word, rest in instructions() if word == "FROM"]
    assert bases == ["${BASE} AS packages", "${BASE}"]
    assert ["ARG", "BASE=nvidia/cuda:13.0.1-base-ubuntu24.04"] in instructions()
    cuda = re.search(r"^nvidia-cuda-runtime==(\d+\.\d+)", lock(), flags=re.MULTILINE)
    assert cuda and cuda[1] == "13.0", "the packages bring another CUDA than the base is for"


def test_the_image_runs_as_the_user_of_the_pods():
    users = [rest for word, rest in instructions() if word == "USER"]
    assert users == ["10001:10001"]
    words = [word for word, _ in instructions()]
    assert words.index("USER") > max(i for i, word in enumerate(words) if word in {"RUN", "COPY"})
    for name in ("head", "gpu", "submitter", "mlflow"):
        assert pod_templates()[name]["spec"]["securityContext"]["runAsUser"] == 10001


def test_the_image_installs_locked_packages_with_hashes():
    installs = re.findall(r"uv pip (?:sync|install)[^\n]*", DOCKERFILE)
    assert [i for i in installs if "--require-hashes" not in i] == [
        "uv pip install --no-cache --no-deps --no-build-isolation --editable /opt/erray"
    ]
    uv = re.search(r"UV_VERSION := (\S+)", (REPOSITORY / "Makefile").read_text("utf-8"))
    assert uv and f"ARG UV_VERSION={uv[1]}" in DOCKERFILE
    extra = (DEPLOY / "mlflow.lock").read_text("utf-8")
    names = re.findall(r"^([\w-]+)==", extra, flags=re.MULTILINE)
    assert names == ["psycopg2-binary"] and extra.count("--hash=sha256:") > 10


def lock():
    return (REPOSITORY / "requirements.lock").read_text("utf-8")


def test_the_image_asks_for_a_token_and_holds_none():
    env = " ".join(rest for word, rest in instructions() if word == "ENV")
    assert "RAY_AUTH_MODE=token" in env
    assert not re.search(r"(TOKEN|PASSWORD|SECRET|KEY)\w*=", env)
    ignore = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    rules = [line for line in ignore if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = [rest.split() for word, rest in instructions() if word == "COPY"]
    sources = {s for rest in copied if "--from=packages" not in rest for s in rest[:-1]}
    assert sources == allowed
    assert all((REPOSITORY / source).exists() for source in sources)
