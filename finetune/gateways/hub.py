"""Adapters on the Hugging Face Hub. It keeps and answers nothing, so this is an export and no gateway.

Each version is a commit of one private repository with a tag of its own (`support-bot-v3-0a1b2c3d4e5f`); what loads
models from the hub takes the tag as revision. `HF_TOKEN`, `HF_ENDPOINT`, `FT_HUB_REPO` (`owner` or `owner/name`).
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from finetune.deployments import Deployment, GatewayKit
from finetune.errors import GatewayError, GatewayUnavailable, Problem, UsageError
from finetune.gateways.adapters import folder_faults, is_ours

_NAME: Final = "hub"
_REPO: Final = "FT_HUB_REPO"
_TOKEN: Final = "HF_TOKEN"
_ENDPOINT: Final = "HF_ENDPOINT"
_FIRST_OF_SERVER: Final = 500
_TOO_MANY: Final = 429
_DENIED: Final = (401, 403)


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """One version on the hub."""

    repo: str
    #: Its tag, which is `Deployment.model`.
    tag: str
    #: The commit that the tag stands for.
    commit: str


def build(kit: GatewayKit) -> "Hub":
    """Raises UsageError when the environment lacks what it needs, or huggingface_hub is not installed."""
    missing = [name for name in (_TOKEN, _REPO) if not kit.environ.get(name)]
    if missing:
        raise UsageError(
            Problem(
                code="E825",
                what=f"{' and '.join(missing)} not set",
                why="adapters are pushed to a repository of an account on the Hugging Face Hub",
                fix=f"set {_TOKEN} to a token that may write, and {_REPO} to the account, or to owner/name",
            )
        )
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise UsageError(
            Problem(
                code="E825",
                what="the package huggingface_hub is not installed",
                why="adapters are pushed with it",
                fix="pip install 'ft-orchestrator[hub]'",
            )
        ) from None
    api = HfApi(endpoint=kit.environ.get(_ENDPOINT) or None, token=kit.environ[_TOKEN])
    return Hub(api, kit.environ[_REPO], kit.environ[_TOKEN])


class Hub:
    """Pushes versions to one account. Every change is idempotent. Blocks for as long as uploads take.

    Raises GatewayUnavailable when the hub cannot be reached or not now, GatewayError when it refuses.
    """

    def __init__(self, api: Any, repo: str, token: str) -> None:
        """`api`: an HfApi. `repo`: `owner/name`, or `owner` for a repository a model name."""
        self._api, self._repo, self._token = api, repo, token

    def push(self, deployment: Deployment) -> Pushed:
        """Upload the adapter's folder and tag it; what is tagged already is compared instead.

        Raises GatewayError E827 when the tag has another content, E828 when the repository can be read by anyone.
        """
        if faults := folder_faults(_NAME, deployment):
            raise GatewayError(*faults)
        repo, tag = self._repo_of(deployment), deployment.model
        with self._words("push to"):
            self._api.create_repo(repo, private=True, exist_ok=True)
            self._must_be_private(repo)
            if tag not in self._tags(repo):
                done = self._api.upload_folder(
                    repo_id=repo,
                    folder_path=str(deployment.adapter),
                    allow_patterns=list(_digests(deployment)),
                    # Files of versions before it would stay else.
                    delete_patterns=["*"],
                    commit_message=f"{deployment.ref} ({deployment.digest[:12]}), on {deployment.base_model}",
                )
                self._api.create_tag(repo, tag=tag, revision=done.oid)
        if wrong := self.differing(deployment):
            raise self._other(repo, tag, wrong)
        with self._words("read"):
            return Pushed(repo=repo, tag=tag, commit=self._tags(repo)[tag])

    def pushed(self, deployment: Deployment) -> list[Pushed]:
        """The versions in the repository that this one belongs into, by tag. Empty when there is no repository."""
        from huggingface_hub.errors import RepositoryNotFoundError

        repo = self._repo_of(deployment)
        with self._words("read"):
            try:
                tags = self._tags(repo)
            except RepositoryNotFoundError:
                return []
        return [Pushed(repo=repo, tag=tag, commit=commit) for tag, commit in sorted(tags.items()) if is_ours(tag)]

    def differing(self, deployment: Deployment) -> list[str]:
        """Files that the hub has otherwise under the version's tag, or not, or too many; by the hub's own digests."""
        here = _digests(deployment)
        with self._words("read"):
            tree = self._api.list_repo_tree(self._repo_of(deployment), revision=deployment.model, recursive=True)
            there = {each.path: _digest_of(each) for each in tree if hasattr(each, "blob_id")}
        there.pop(".gitattributes", None)
        return sorted(name for name in here.keys() | there.keys() if there.get(name) not in here.get(name, ()))

    def untag(self, deployment: Deployment) -> None:
        """Take the tag away; the commit stays in the repository's history. Silent when there is no such tag."""
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

        with self._words("change"):
            try:
                self._api.delete_tag(self._repo_of(deployment), tag=deployment.model)
            except (RepositoryNotFoundError, RevisionNotFoundError):
                return

    def _repo_of(self, deployment: Deployment) -> str:
        return self._repo if "/" in self._repo else f"{self._repo}/{deployment.ref.partition('@')[0]}"

    def _tags(self, repo: str) -> dict[str, str]:
        return {ref.name: ref.target_commit for ref in self._api.list_repo_refs(repo).tags}

    def _must_be_private(self, repo: str) -> None:
        if not self._api.repo_info(repo).private:
            raise GatewayError(
                Problem(
                    code="E828",
                    what=f"the repository {repo} can be read by anyone",
                    why="an adapter can tell what it was trained on",
                    fix=f"make it private on the hub, or set {_REPO} to another one",
                )
            )

    def _other(self, repo: str, tag: str, wrong: list[str]) -> GatewayError:
        return GatewayError(
            Problem(
                code="E827",
                what=f"{repo} has another content under the tag {tag}",
                why=f"different: {', '.join(wrong)}",
                fix=f"delete the tag {tag} on the hub, then push again",
            )
        )

    @contextmanager
    def _words(self, doing: str) -> Iterator[None]:
        """Whatever its client raises, as ours, without the token."""
        try:
            yield
        except GatewayError:
            raise
        except Exception as error:  # noqa: BLE001 -- the client raises errors of several libraries
            raise self._failed(doing, error) from None

    def _failed(self, doing: str, error: Exception) -> GatewayError:
        response = getattr(error, "response", None)
        status = getattr(response, "status_code", None)
        # Its client speaks HTTP by a library whose errors have no common class with ours.
        unreached = isinstance(error, OSError) or type(error).__module__.startswith("httpx")
        later = unreached if status is None else status >= _FIRST_OF_SERVER or status == _TOO_MANY
        fix = "repeat it later"
        if not later:
            fix = f"set {_TOKEN} to a token that may write" if status in _DENIED else "look at the repository"
        said = " ".join(str(error).replace(self._token, "***").split())[:300]
        problem = Problem(
            code="E820" if later else "E821",
            what=f"cannot {doing} the Hugging Face Hub" + (f" (status {status})" if status else ""),
            why=said or type(error).__name__,
            fix=fix,
        )
        return GatewayUnavailable(problem) if later else GatewayError(problem)


def _digests(deployment: Deployment) -> dict[str, tuple[str, str]]:
    """Of each file: sha256, as the hub has it of large files, and git's sha1, as it has it of small ones."""
    assert deployment.adapter is not None
    return {
        path.relative_to(deployment.adapter).as_posix(): (_sha256(path), _git_sha1(path))
        for path in sorted(deployment.adapter.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def _digest_of(entry: Any) -> str:
    lfs = entry.lfs
    if lfs is None:
        return str(entry.blob_id)
    return str(lfs["sha256"] if isinstance(lfs, Mapping) else lfs.sha256)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _git_sha1(path: Path) -> str:
    content = path.read_bytes()
    # Git's name for a file's content, not a signature.
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
