"""A stand-in for the Hugging Face Hub: repositories, commits of small and large files, tags. Git LFS, without Xet."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final
from urllib.parse import unquote

import yaml

from finetune.sandbox.gateways.answers import KEY, ModelServer, route
from finetune.sandbox.service import Refusal, Reply, Request, Route

#: Files of these names are large ones, whatever their size.
_LARGE: Final = (".safetensors", ".gguf", ".bin")
_NO_REPOSITORY: Final = {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
_CREATE: Final[Mapping[str, type | tuple[type, ...]]] = {
    "name": str,
    "organization": (str, type(None)),
    "visibility": str,
    "private": bool,
    "type": str,
    "lfsmultipartthresh": int,
}


@dataclass(kw_only=True)
class Repository:
    """One repository: its files at each commit, the newest last, and its tags."""

    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def head(self) -> str:
        """The newest commit."""
        return list(self.commits)[-1]


#: https://huggingface.co/docs/hub/model-cards-metadata, as far as cards of adapters use it.
_CARD: Final = frozenset(
    "license pipeline_tag library_name base_model base_model_relation tags datasets language metrics".split()
)


class HubSandbox(ModelServer):
    """The hub on this machine, for one account."""

    name: ClassVar[str] = "hub"
    denial = "Invalid username or password."

    def __init__(self, *, key: str = KEY) -> None:
        super().__init__(key=key)
        self.repositories: dict[str, Repository] = {}
        self._large: dict[str, bytes] = {}
        #: A fault: the content of large files that were uploaded is another one afterwards.
        self.spoils = False

    def routes(self) -> Sequence[Route]:
        """See `Sandbox.routes`."""
        repo, api = "{owner}/{name}", "/api/models/{owner}/{name}"
        return [
            route("POST", "/api/repos/create", "create", self._create),
            route("POST", "/api/validate-yaml", "validate", self._validate),
            route("GET", api, "info", self._info),
            route("GET", f"{api}/revision/{{revision}}", "info", self._info),
            route("GET", f"{api}/refs", "refs", self._refs),
            route("POST", f"{api}/preupload/{{revision}}", "preupload", self._preupload),
            route("POST", f"/{repo}.git/info/lfs/objects/batch", "batch", self._batch),
            route("PUT", "/_objects/{oid}", "upload", self._upload),
            route("POST", f"{api}/commit/{{revision}}", "commit", self._commit),
            route("POST", f"{api}/tag/{{revision}}", "tag", self._tag),
            route("DELETE", f"{api}/tag/{{tag}}", "untag", self._untag),
            route("GET", f"{api}/tree/{{revision}}", "tree", self._tree),
        ]

    def environment(self, url: str) -> dict[str, str]:
        """See `Sandbox.environment`."""
        return {"HF_ENDPOINT": url, "HF_TOKEN": str(self._key), "FT_HUB_REPO": "sandbox"}

    def authenticate(self, request: Request) -> Reply | None:
        """See `Sandbox.authenticate`. What is uploaded goes to an address that is the permission."""
        return None if request.path.startswith("/_objects/") else super().authenticate(request)

    def refused(self, status: int, message: str, **more: Any) -> Reply:
        """See `Sandbox.refused`."""
        return Reply(status=status, body={"error": message}, headers=more.get("headers", {}))

    def _validate(self, request: Request) -> Reply:
        """What stands above a card is YAML with words that the hub knows, as far as our cards use them."""
        said = self.body(request, {"repoType": str, "content": str}, ("repoType", "content"))
        empty, *rest = said["content"].split("---\n", 2)
        try:
            head = yaml.safe_load(rest[0]) if empty == "" and len(rest) == 2 else None
        except yaml.YAMLError:
            head = None
        if not isinstance(head, dict):
            return Reply(
                status=400, body={"errors": [{"message": "the card does not begin with YAML"}], "warnings": []}
            )
        odd = [f'"{name}" is not known' for name in sorted(head.keys() - _CARD)]
        if odd:
            return Reply(status=400, body={"errors": [{"message": each} for each in odd], "warnings": []})
        return Reply(body={"errors": [], "warnings": []})

    def _create(self, request: Request) -> Reply:
        said = self.body(request, _CREATE, ("name",))
        name = f"{said.get('organization') or 'sandbox'}/{said['name']}"
        if name in self.repositories:
            body = {"error": "You already created this model repo", "url": f"{request.base}/{name}"}
            return Reply(status=409, body=body)
        private = bool(said.get("private")) or said.get("visibility") == "private"
        first = hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()
        self.repositories[name] = Repository(private=private, commits={first: {".gitattributes": b"*.bin filter=lfs"}})
        return Reply(body={"url": f"{request.base}/{name}", "name": name})

    def _info(self, request: Request) -> Reply:
        repository = self._of(request)
        commit = self._commit_of(repository, request.parts.get("revision", "main"))
        files = [{"rfilename": path} for path in repository.commits[commit]]
        body = {"_id": "0", "id": self._name(request), "private": repository.private, "sha": commit, "siblings": files}
        return Reply(body={**body, "modelId": body["id"], "tags": [], "downloads": 0, "likes": 0, "gated": False})

    def _refs(self, request: Request) -> Reply:
        repository = self._of(request)
        main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repository.head}
        tags = [
            {"name": name, "ref": f"refs/tags/{name}", "targetCommit": commit}
            for name, commit in repository.tags.items()
        ]
        return Reply(body={"branches": [main], "converts": [], "tags": tags})

    def _preupload(self, request: Request) -> Reply:
        self._of(request)
        said = json.loads(request.body)["files"]
        modes = [
            {"path": each["path"], "uploadMode": "lfs" if each["path"].endswith(_LARGE) else "regular"} for each in said
        ]
        return Reply(body={"files": [{**mode, "shouldIgnore": False, "oid": None} for mode in modes]})

    def _batch(self, request: Request) -> Reply:
        said = json.loads(request.body)
        objects = []
        for each in said["objects"]:
            upload = {"upload": {"href": f"{request.base}/_objects/{each['oid']}", "header": {}}}
            objects.append({**each, **({} if each["oid"] in self._large else {"actions": upload})})
        return Reply(body={"transfer": "basic", "objects": objects})

    def _upload(self, request: Request) -> Reply:
        oid = request.parts["oid"]
        if hashlib.sha256(request.body).hexdigest() != oid:
            return self.refused(400, "the content has another digest")
        self._large[oid] = request.body[::-1] if self.spoils else request.body
        return Reply()

    def _commit(self, request: Request) -> Reply:
        repository = self._of(request)
        files = dict(repository.commits[repository.head])
        for line in request.body.splitlines():
            said = json.loads(line)
            value = said["value"]
            if said["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif said["key"] == "lfsFile":
                if value["oid"] not in self._large:
                    return self.refused(400, f"LFS object {value['oid']} was not uploaded")
                files[value["path"]] = self._large[value["oid"]]
            elif said["key"] == "deletedFile":
                files.pop(value["path"], None)
            elif said["key"] != "header":
                return self.refused(400, f"unknown key {said['key']}")
        told = repr((repository.head, sorted(files.items()))).encode()
        commit = hashlib.sha1(told, usedforsecurity=False).hexdigest()
        repository.commits[commit] = files
        url = f"{request.base}/{self._name(request)}/commit/{commit}"
        return Reply(body={"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})

    def _tag(self, request: Request) -> Reply:
        repository, name = self._of(request), json.loads(request.body)["tag"]
        if name in repository.tags:
            return self.refused(409, f"Tag {name} already exists")
        repository.tags[name] = self._commit_of(repository, request.parts["revision"])
        return Reply(status=201, body={})

    def _untag(self, request: Request) -> Reply:
        tags = self._of(request).tags
        if tags.pop(unquote(request.parts["tag"]), None) is None:
            told = {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Tag not found"}
            return self.refused(404, "Tag not found", headers=told)
        return Reply(body={})

    def _tree(self, request: Request) -> Reply:
        repository = self._of(request)
        files = repository.commits[self._commit_of(repository, request.parts["revision"])]
        return Reply(body=[_entry(path, content) for path, content in files.items()])

    def _name(self, request: Request) -> str:
        return f"{request.parts['owner']}/{request.parts['name']}"

    def _of(self, request: Request) -> Repository:
        repository = self.repositories.get(self._name(request))
        if repository is None:
            raise Refusal(self.refused(404, "Repository not found", headers=_NO_REPOSITORY))
        return repository

    def _commit_of(self, repository: Repository, revision: str) -> str:
        revision = unquote(revision)
        commit = repository.head if revision == "main" else repository.tags.get(revision, revision)
        if commit not in repository.commits:
            told = {"X-Error-Code": "RevisionNotFound", "X-Error-Message": f"Invalid rev id: {revision}"}
            raise Refusal(self.refused(404, f"Invalid rev id: {revision}", headers=told))
        return commit


def _entry(path: str, content: bytes) -> dict[str, Any]:
    """A file of a tree, by git's sha1, and by sha256 where it is a large one."""
    if not path.endswith(_LARGE):
        return {"type": "file", "path": path, "size": len(content), "oid": _blob(content)}
    oid = hashlib.sha256(content).hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}\n".encode()
    lfs = {"oid": oid, "size": len(content), "pointerSize": len(pointer)}
    return {"type": "file", "path": path, "size": len(content), "oid": _blob(pointer), "lfs": lfs}


def _blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
