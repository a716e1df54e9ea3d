"""Adapters that Together hands out: fetched from the stand-in, taken out of archives, refused when they are bad."""

import gzip
import io
import json
import struct
import subprocess
import sys
import tarfile
from dataclasses import replace

import pytest
import zstandard

from finetune.errors import FtError, ProviderError, ProviderUnavailable, StateError
from finetune.files import ADAPTER_FILES, digest
from finetune.providers.packed import Unpacked, present, unpack
from finetune.sandbox.faults import Fault
from finetune.sandbox.service import Reply
from tests.support import hosted_together
from tests.wire.hosted.test_together import answered

CONFIG = json.dumps({"peft_type": "LORA", "r": 2}).encode()


@pytest.fixture
def rig(tmp_path):
    made = hosted_together.rig(tmp_path)
    yield made
    made.server.stop()
    assert made.server.broken == []


@pytest.fixture
def artifact(rig):
    """Of a job that has succeeded."""
    job = rig.create().remote_id
    rig.work("ft_x-a1")
    return rig.provider.poll(job, None).artifact


def weights(**more):
    head = {"a.lora_A.weight": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **more}}
    said = json.dumps({"__metadata__": {"format": "pt"}, **head}).encode()
    return struct.pack("<Q", len(said)) + said + bytes(8)


def tar(files, *, links=(), folder="bot/"):
    """An archive of these contents by name; None is a folder."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        for name, content in files:
            member = tarfile.TarInfo(f"{folder}{name}")
            if content is None:
                member.type = tarfile.DIRTYPE
            member.size = len(content or b"")
            made.addfile(member, io.BytesIO(content or b""))
        for name, target in links:
            member = tarfile.TarInfo(f"{folder}{name}")
            member.type, member.linkname = tarfile.SYMTYPE, target
            made.addfile(member)
    return out.getvalue()


GOOD = (("adapter_config.json", CONFIG), ("adapter_model.safetensors", weights()))


def zstd(content):
    return zstandard.ZstdCompressor().compress(content)


def taken(folder, content):
    """What `unpack` says of this archive; None: it has put an adapter there."""
    archive = folder / ".archive"
    archive.write_bytes(content)
    there = folder / "adapter"
    there.mkdir(exist_ok=True)
    try:
        unpack(archive, there)
    except Unpacked as fault:
        assert list(there.iterdir()) == []
        return fault
    finally:
        archive.unlink()
    return None


def there(folder):
    return {path.name for path in folder.iterdir()}


# Fetched.


def test_an_adapter_is_fetched_as_peft_keeps_it(rig, artifact, tmp_path):
    from safetensors.numpy import load_file

    folder = tmp_path / "deep" / "adapter"
    assert rig.provider.fetch_adapter(artifact, folder) is True
    assert there(folder) == set(ADAPTER_FILES)
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["peft_type"], config["base_model_name_or_path"]) == ("LORA", hosted_together.MODEL)
    assert len(load_file(folder / "adapter_model.safetensors")) == 2
    assert len(digest(folder)) == 64


def test_what_is_there_is_not_fetched_again(rig, artifact, tmp_path):
    folder = tmp_path / "adapter"
    rig.provider.fetch_adapter(artifact, folder)
    known, before = digest(folder), len(rig.sandbox.requests)
    assert rig.provider.fetch_adapter(artifact, folder) is True
    assert (digest(folder), len(rig.sandbox.requests)) == (known, before)


def test_what_is_half_there_is_fetched_anew(rig, artifact, tmp_path):
    folder = tmp_path / "adapter"
    rig.provider.fetch_adapter(artifact, folder)
    known = digest(folder)
    for name in ADAPTER_FILES:
        (folder / name).unlink()
        (folder / ".download").write_bytes(b"half")
        assert rig.provider.fetch_adapter(artifact, folder) is True
        assert (digest(folder), there(folder)) == (known, set(ADAPTER_FILES))


def test_a_full_training_has_none_and_nothing_is_asked(rig, tmp_path):
    before = len(rig.sandbox.requests)
    assert rig.provider.fetch_adapter({"job": "ft-1", "model": "m", "tuning": "Full"}, tmp_path / "adapter") is False
    assert len(rig.sandbox.requests) == before


def test_a_job_that_is_gone_has_none(rig, tmp_path):
    assert rig.provider.fetch_adapter({"job": "ft-none", "model": "m", "tuning": "Lora"}, tmp_path / "a") is False
    assert there(tmp_path / "a") == set()


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("rate_limit", "E410"),
        ("server_error", "E403"),
        ("cut_before", "E403"),
        ("cut_after", "E403"),
        ("garbage", "E411"),
    ],
)
def test_every_fault_on_the_way_is_mended_by_another_try(rig, artifact, tmp_path, kind, code):
    folder = tmp_path / "adapter"
    rig.sandbox.faults.lay(Fault(kind=kind, on="download", seconds=0))
    with pytest.raises(ProviderUnavailable) as caught:
        rig.provider.fetch_adapter(artifact, folder)
    assert caught.value.problems[0].code == code
    assert there(folder) == set()
    assert rig.provider.fetch_adapter(artifact, folder) is True


def test_an_archive_that_is_no_good_is_not_asked_for_again(rig, artifact, tmp_path):
    answered(rig, "download", Reply(body=zstd(tar([("adapter_model.bin", b"pickle")]))))
    with pytest.raises(ProviderError) as caught:
        rig.provider.fetch_adapter(artifact, tmp_path / "adapter")
    problem = caught.value.problems[0]
    assert (type(caught.value), caught.value.retry, problem.code) == (ProviderError, False, "E411")
    assert "no adapter_config.json" in problem.why
    assert there(tmp_path / "adapter") == set()


def test_a_storage_elsewhere_is_asked_without_the_key(rig, artifact, tmp_path):
    """127.0.0.1 and localhost are two places, as far as a key is concerned."""
    seen = []
    elsewhere = rig.server.url.replace("127.0.0.1", "localhost") + "/storage/there?X-Amz-Signature=s"
    for place, (route, pattern) in enumerate(rig.server.table):
        if route.operation == "put":
            stored = replace(
                route, method="GET", operation="stored", answer=lambda request: seen.append(request) or packed
            )
            rig.server.table[place] = (stored, pattern)
    packed = Reply(body=zstd(tar(GOOD)), headers={"Content-Type": "application/octet-stream"})
    answered(rig, "download", Reply(status=302, headers={"Location": elsewhere}))
    assert rig.provider.fetch_adapter(artifact, tmp_path / "adapter") is True
    (request,) = seen
    assert "authorization" not in request.headers
    assert request.headers["accept-encoding"] == "identity"
    assert request.query_text == "X-Amz-Signature=s"
    # Nor is any place taken.
    answered(rig, "download", Reply(status=302, headers={"Location": "ftp://127.0.0.1/x"}))
    with pytest.raises(ProviderUnavailable) as caught:
        rig.provider.fetch_adapter(artifact, tmp_path / "other")
    assert caught.value.problems[0].code == "E411"


def test_a_disk_that_takes_nothing_is_said(rig, artifact, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StateError):
        rig.provider.fetch_adapter(artifact, tmp_path / "file" / "adapter")


# Taken out.


@pytest.mark.parametrize("pack", [zstd, gzip.compress, bytes], ids=["zstd", "gzip", "plain"])
@pytest.mark.parametrize("folder", ["", "./", "bot/", "a/b/"])
def test_archives_of_every_kind(tmp_path, pack, folder):
    files = [("README.md", b"x"), *GOOD, ("tokenizer.json", b"{}")]
    assert taken(tmp_path, pack(tar(files, folder=folder))) is None
    assert there(tmp_path / "adapter") == set(ADAPTER_FILES)
    assert present(tmp_path / "adapter")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (tar([]), "no adapter_config.json and no adapter_model.safetensors"),
        (tar(GOOD[:1]), "no adapter_model.safetensors"),
        (tar([*GOOD[:1], ("adapter_model.bin", b"x")]), "no adapter_model.safetensors"),
        (tar([*GOOD, *GOOD[:1]]), "adapter_config.json twice"),
        (tar([*GOOD, ("deep/adapter_config.json", CONFIG)]), "adapter_config.json twice"),
        (tar(GOOD, folder="../"), "would leave its folder"),
        (tar(GOOD, folder="/"), "would leave its folder"),
        (tar([*GOOD, ("a/../../../evil", b"x")]), "would leave its folder"),
        (tar(GOOD[:1], links=[("adapter_model.safetensors", "/etc/passwd")]), "no plain file"),
        (tar([*GOOD[:1], ("adapter_model.safetensors", None)]), "no plain file"),
        (tar([("adapter_config.json", b" " * 2**20 + b"{}"), GOOD[1]]), "which no adapter has"),
        (tar([("adapter_config.json", b"{"), GOOD[1]]), "is not that of a LoRA"),
        (tar([("adapter_config.json", b'{"peft_type": "IA3"}'), GOOD[1]]), "is not that of a LoRA"),
        (tar([GOOD[0], ("adapter_model.safetensors", b"")]), "is no safetensors file"),
        (tar([GOOD[0], ("adapter_model.safetensors", b"PK\x03\x04" * 9)]), "is no safetensors file"),
        (tar([GOOD[0], ("adapter_model.safetensors", struct.pack("<Q", 2) + b"{}")]), "has no tensors"),
        (tar([GOOD[0], ("adapter_model.safetensors", weights(data_offsets=None))]), "is no safetensors file"),
        (tar([GOOD[0], ("adapter_model.safetensors", weights()[:-1])]), "breaks off"),
        (tar([GOOD[0], ("adapter_model.safetensors", weights() + b"x")]), "breaks off, or has more"),
    ],
)
def test_what_is_no_adapter(tmp_path, content, words):
    fault = taken(tmp_path, content)
    assert words in str(fault)
    assert fault.lasting
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("pack", [zstd, gzip.compress, bytes], ids=["zstd", "gzip", "plain"])
def test_what_breaks_off_may_be_whole_another_time(tmp_path, pack):
    # Bytes that cannot be packed, so that the half of it is the half of them.
    noise = bytes((each * each + each // 7) % 251 for each in range(60_000))
    whole = pack(tar([("notes", noise), *GOOD]))
    fault = taken(tmp_path, whole[: len(whole) // 2])
    assert "breaks off" in str(fault) or "damaged" in str(fault)
    assert not fault.lasting


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x28\xb5\x2f\xfd" + b"x" * 99, b"\x1f\x8b" + b"x" * 99])
def test_what_is_no_archive(tmp_path, content):
    assert not taken(tmp_path, content).lasting


def test_a_frame_that_wants_much_memory_is_refused(tmp_path):
    options = zstandard.ZstdCompressionParameters(window_log=30)
    packed = zstandard.ZstdCompressor(compression_params=options)
    content = packed.compressobj()
    whole = content.compress(tar(GOOD)) + content.flush()
    assert "memory" in str(taken(tmp_path, whole))


def test_without_the_package_it_is_said_what_to_install(tmp_path):
    """In a process of its own, where the package cannot be imported."""
    archive, folder = tmp_path / "a.tar.zst", tmp_path / "adapter"
    archive.write_bytes(zstd(tar(GOOD)))
    folder.mkdir()
    code = (
        "import sys; sys.modules['zstandard'] = None; from pathlib import Path; "
        "from finetune.errors import FtError; from finetune.providers.packed import unpack\n"
        f"try: unpack(Path({str(archive)!r}), Path({str(folder)!r}))\n"
        "except FtError as error: print(error.problems[0].code, error.problems[0].fix)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert told.stdout.startswith("E412 pip install 'ft-orchestrator[together]'")


def test_the_fault_is_no_error_of_ours():
    # It is turned into one where the provider's name is known.
    assert not issubclass(Unpacked, FtError)


def test_a_head_that_would_fill_the_memory_is_not_read(tmp_path):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as made:
        member = tarfile.TarInfo("bot/adapter_config.json")
        member.size, member.pax_headers = len(CONFIG), {"comment": "x" * (2 * 1024 * 1024)}
        made.addfile(member, io.BytesIO(CONFIG))
    archive = tmp_path / "a.tar"
    archive.write_bytes(out.getvalue())
    (tmp_path / "there").mkdir()
    with pytest.raises(Unpacked, match="one of its heads is 2097"):
        unpack(archive, tmp_path / "there")
