"""Checks the compose file, and the files for Kubernetes against its schemas with kubeconform, as far as what is needed is there.

The schemas are those in the PyPI package kubernetes-validate. The values for the NATS chart are rendered with helm
where METAWATCH_NATS_CHART names the chart's folder; in any case the sidecar and its volumes are checked as a pod.
METAWATCH_CRD_SCHEMAS may name a folder with schemas of ServiceMonitor and PodMonitor (servicemonitor-monitoring-v1.json).
"""

import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

VERSIONS = ("1.25.0", "1.31.0", "1.37.0")
MONITORS = {"ServiceMonitor": "servicemonitor-monitoring-v1", "PodMonitor": "podmonitor-monitoring-v1"}


def skip(what, why):
    print(f"skipped: {what}, because {why}")


def program(name):
    """The program on PATH, or where go installs it."""
    found = shutil.which(name)
    if not found and shutil.which("go"):
        path = subprocess.run(["go", "env", "GOBIN", "GOPATH"], capture_output=True, text=True, check=True)
        gobin, gopath = path.stdout.split("\n")[:2]
        found = shutil.which(name, path=os.pathsep.join([gobin, os.path.join(gopath, "bin")]))
    return found


def schema(folder, kind):
    """One schema that needs no other file: kubeconform follows no references between files."""
    shared = json.loads((folder / "_definitions.json").read_text())["$defs"]
    text = (folder / f"{kind}.json").read_text().replace("/api/_definitions.json#", "#")
    whole = json.dumps({**json.loads(text), "$defs": shared})
    return whole.replace("#/$defs/", "#/definitions/").replace('"$defs"', '"definitions"')


def kind_of(document):
    """The name of the schema of a document: deployment-apps-v1."""
    group, _, version = document["apiVersion"].rpartition("/")
    return "-".join(part for part in (document["kind"].lower(), group.split(".")[0], version) if part)


def sidecar(values):
    """What the values add to a pod of the chart, as a pod."""
    added = {"containers": [], "volumes": []}
    for patch in values["podTemplate"]["patch"]:
        place = patch["path"].removeprefix("/spec/").removesuffix("/-")
        added[place].append(json.loads(json.dumps(patch["value"], default=str)))
    for container in added["containers"]:
        for variable in container["env"]:
            # A template, which becomes a text.
            if isinstance(variable.get("value"), dict):
                variable["value"] = variable["value"]["$tplYaml"].strip()
    names = {volume["name"] for volume in added["volumes"]}
    for container in added["containers"]:
        assert {mount["name"] for mount in container["volumeMounts"]} <= names, "a volume is missing"
        assert "readinessProbe" not in container, "a watcher must not take its server out of service"
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "sidecar"}, "spec": added}


def compose(folder, document):
    """Every file that a container sees is there, and every service has an image."""
    for name, service in document["services"].items():
        assert service["image"], name
        for volume in service.get("volumes", ()):
            path = volume.split(":")[0]
            assert (folder / path).is_file(), f"{name}: there is no {path}"
    print(f"checked: a compose file with the services {', '.join(document['services'])}")


def main(deploy):
    try:
        import yaml
    except ImportError:
        return skip("compose and Kubernetes", "python3 has no yaml (pip install kubernetes-validate brings it)")
    compose(deploy / "compose", yaml.safe_load((deploy / "compose/compose.yaml").read_text()))
    folder = deploy / "kubernetes"
    documents = list(yaml.safe_load_all((folder / "deployment.yaml").read_text()))
    values = yaml.safe_load((folder / "nats-values.yaml").read_text())
    documents.append(sidecar(values))
    helm, chart = program("helm"), os.environ.get("METAWATCH_NATS_CHART")
    if helm and chart:
        render = [helm, "template", "nats", chart, "--values", str(folder / "nats-values.yaml")]
        rendered = subprocess.run(render, capture_output=True, text=True, check=True).stdout
        documents += [document for document in yaml.safe_load_all(rendered) if document]
        kinds = [document["kind"] for document in documents]
        assert "StatefulSet" in kinds and "PodMonitor" in kinds, kinds
        containers = next(d for d in documents if d["kind"] == "StatefulSet")["spec"]["template"]["spec"]["containers"]
        assert [container["name"] for container in containers].count("metawatch") == 1, containers
        print(f"checked: the chart in {chart} with the values")
    else:
        skip("the NATS chart with the values", "there is no helm" if not helm else "METAWATCH_NATS_CHART names no chart")

    kubeconform = program("kubeconform")
    found = importlib.util.find_spec("kubernetes_validate")
    if not kubeconform or not found:
        what = "kubeconform" if not kubeconform else "PyPI package kubernetes-validate with the schemas"
        return skip("the schemas of Kubernetes", f"there is no {what}")
    monitors = os.environ.get("METAWATCH_CRD_SCHEMAS")
    if not monitors:
        skip("ServiceMonitor and PodMonitor", "METAWATCH_CRD_SCHEMAS names no folder with their schemas")
    schemas = pathlib.Path(found.origin).parent / "kubernetes-json-schema"
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        for version in VERSIONS:
            (work / version).mkdir()
            for kind in {kind_of(d) for d in documents if d["kind"] not in MONITORS}:
                text = schema(schemas / f"v{version}-local-strict", kind)
                (work / version / f"{kind}.json").write_text(text)
            for kind in MONITORS.values() if monitors else ():
                shutil.copy(pathlib.Path(monitors) / f"{kind}.json", work / version)
            location = str(work / version / "{{.ResourceKind}}{{.KindSuffix}}.json")
            check = [kubeconform, "-strict", "-summary", "-schema-location", location]
            check += [] if monitors else ["-skip", ",".join(MONITORS)]
            done = subprocess.run(check, input=yaml.safe_dump_all(documents), text=True, capture_output=True)
            print(f"Kubernetes {version}: {done.stdout.strip()}")
            if done.returncode:
                sys.exit(f"{done.stdout}{done.stderr}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
