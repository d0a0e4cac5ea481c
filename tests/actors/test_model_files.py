"""Which files of a model folder count: for the fingerprint, and as the cause of an error."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from actors.diffusion.model import DiffusionModel
from actors.errors import ModelError
from actors.models import fingerprint, locate
from tests.model_folders import LFS_POINTER, change, random_like, shard, weights_of
from tests.upernet import save_upernet

TINY = Path(__file__).parents[1] / "golden" / "tiny_sd"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TINY, tmp_path / "sd"))


def digest(folder: Path) -> str:
    return fingerprint(str(folder)).split("@")[1]


def refused(folder: Path, message: str) -> None:
    """Both when the run's identity is formed and when a worker loads."""
    for work in (DiffusionModel, fingerprint):
        with pytest.raises(ModelError, match=message) as caught:
            work(str(folder))
        assert str(folder) in str(caught.value)


def other_weights(folder: Path, part: str) -> None:
    change(weights_of(folder / part), random_like)


def whole_part(folder: Path, elsewhere: Path) -> Path:
    (folder / "unet").rename(elsewhere / "unet-weights")
    (folder / "unet").symlink_to(elsewhere / "unet-weights")
    return elsewhere / "unet-weights"


def relative_part(folder: Path, elsewhere: Path) -> Path:
    (folder / "unet").rename(folder / "renamed")
    (folder / "unet").symlink_to("renamed")
    return folder / "renamed"


def whole_model(folder: Path, elsewhere: Path) -> Path:
    folder.rename(elsewhere / "model")
    folder.symlink_to(elsewhere / "model")
    return elsewhere / "model" / "unet"


def hub_cache(folder: Path, elsewhere: Path) -> Path:
    """Every file a link to a blob, as in the hub's cache."""
    for number, path in enumerate(sorted(path for path in folder.rglob("*") if path.is_file())):
        blob = elsewhere / f"{number:040x}"
        path.rename(blob)
        path.symlink_to(blob)
    return folder / "unet"


@pytest.mark.parametrize("linked", [whole_part, relative_part, whole_model, hub_cache])
def test_the_fingerprint_follows_links(folder: Path, tmp_path: Path, linked: Callable[[Path, Path], Path]):
    plain = digest(folder)
    (tmp_path / "elsewhere").mkdir()
    unet = linked(folder, tmp_path / "elsewhere")
    assert digest(folder) == plain
    path = next(path.resolve() for path in unet.iterdir() if path.suffix == ".safetensors")
    weights = load_file(path)
    save_file(random_like(weights), path, metadata={"format": "pt"})
    assert digest(folder) != plain


def test_a_link_that_leads_round_or_nowhere(folder: Path):
    (folder / "unrelated").symlink_to("..")
    before = digest(folder)
    path = weights_of(folder / "vae")
    for target, message in (
        ("gone", f"{path.name} is a link to gone, which does not exist"),
        (path.name, f"{path.name} is a link to {path.name}, which does not exist|cannot be read"),
    ):
        kept = path.read_bytes()
        path.unlink()
        path.symlink_to(target)
        refused(folder, message)
        path.unlink()
        path.write_bytes(kept)
    assert digest(folder) == before


@pytest.mark.parametrize(
    "path",
    [
        "unet/config.json",
        "vae/config.json",
        "text_encoder/config.json",
        "scheduler/scheduler_config.json",
        "tokenizer/tokenizer.json",
        "tokenizer/tokenizer_config.json",
    ],
)
def test_every_small_file_counts(folder: Path, path: str):
    before = digest(folder)
    (folder / path).write_bytes((folder / path).read_bytes() + b"\n")
    assert digest(folder) != before


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_all_weights_that_are_loaded_count(folder: Path, part: str):
    before = digest(folder)
    other_weights(folder, part)
    assert digest(folder) != before


@pytest.mark.parametrize(
    "path",
    [
        "notes.json",
        "VERSION.txt",
        "safety_checker/model.safetensors",
        "unet/training.json",
        "feature_extractor/x.json",
    ],
)
def test_what_is_not_loaded_does_not_count(folder: Path, path: str):
    before = digest(folder)
    (folder / path).parent.mkdir(exist_ok=True)
    if path.endswith(".safetensors"):
        save_file({"weight": torch.zeros(2)}, folder / path)
    else:
        (folder / path).write_text("{}")
    assert digest(folder) == before


def test_the_variant_that_is_loaded_counts(folder: Path):
    path = weights_of(folder / "unet")
    variant = path.with_name("diffusion_pytorch_model.fp16.safetensors")
    before = digest(folder)
    shutil.copy(path, variant)
    assert digest(folder) == before
    path.unlink()
    alone = digest(folder)
    change(variant, random_like)
    assert digest(folder) != alone


def test_shards_and_their_index_count(folder: Path):
    wanted = DiffusionModel(str(folder)).unet.state_dict()
    first, second = shard(weights_of(folder / "unet"))
    found = DiffusionModel(str(folder)).unet.state_dict()
    assert all(torch.equal(found[name], value) for name, value in wanted.items())
    before = digest(folder)
    change(second, random_like)
    assert digest(folder) != before
    first.unlink()
    refused(
        folder, f"{first.name} does not exist, and diffusion_pytorch_model.safetensors.index.json names it"
    )


def test_one_network_alone_has_a_fingerprint(folder: Path):
    """As the training programs take of an autoencoder."""
    before = digest(folder / "vae")
    other_weights(folder, "unet")
    assert digest(folder / "vae") == before
    other_weights(folder, "vae")
    assert digest(folder / "vae") != before


def test_plain_weights_and_shards_together_are_ambiguous(folder: Path):
    path = weights_of(folder / "unet")
    kept = path.read_bytes()
    shard(path)
    path.write_bytes(kept)
    refused(folder, r"has both diffusion_pytorch_model\.safetensors and .*index\.json: remove one")


def test_a_segmenter_counts_its_preprocessor(tmp_path: Path):
    folder = save_upernet(tmp_path / "net")
    before = digest(folder)
    (folder / "notes.json").write_text("{}")
    assert digest(folder) == before
    (folder / "preprocessor_config.json").write_text("{}")
    assert digest(folder) != before


JSON = [
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "scheduler/scheduler_config.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/tokenizer.json",
]
WEIGHTS = [
    "unet/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
    "text_encoder/model.safetensors",
]


@pytest.mark.parametrize("path", [*JSON, *WEIGHTS])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (LFS_POINTER, "is a Git LFS pointer in the place of the file: run `git lfs pull`"),
        (b"", "is empty: save or download it again"),
        (None, "is not JSON|is cut off or is not a safetensors file"),
    ],
)
def test_pointers_empty_files_and_files_that_are_cut_off(
    folder: Path, path: str, content: bytes | None, message: str
):
    whole = (folder / path).read_bytes()
    (folder / path).write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(ModelError, match=f"{path} ({message})"):
        DiffusionModel(str(folder))


@pytest.mark.parametrize("path", JSON)
@pytest.mark.parametrize("content", [b"[]", b"null", b'"text"', b"\xff\xfe", b"[" * 200_000])
def test_json_of_another_kind(folder: Path, path: str, content: bytes):
    (folder / path).write_bytes(content)
    with pytest.raises(
        ModelError, match=f"{path} (holds a JSON (list|NoneType|str), not an object|is not JSON)"
    ):
        DiffusionModel(str(folder))


def test_an_adapter_beside_the_model_is_refused(folder: Path):
    lora = {"unet.down_blocks.0.attentions.0.to_q.lora_A.weight": torch.zeros(4, 16)}
    for path, weights in (
        ("pytorch_lora_weights.safetensors", lora),
        ("my_style.safetensors", {"lora_unet_down_blocks_0_attn_to_q.lora_down.weight": torch.zeros(4, 16)}),
        ("unet/loha.safetensors", {"down_blocks.0.hada_w1_a": torch.zeros(4, 16)}),
        (
            "text_encoder/adapter_model.safetensors",
            {"base_model.model.q_proj.lora_B.weight": torch.zeros(4, 16)},
        ),
    ):
        save_file(weights, folder / path)
        refused(
            folder, f"{path} is a LoRA adapter, which is not applied: fuse it into the model .* or remove it"
        )
        (folder / path).unlink()
    (folder / "text_encoder" / "adapter_config.json").write_text("{}")
    refused(folder, "text_encoder/adapter_config.json is a LoRA adapter")
    (folder / "text_encoder" / "adapter_config.json").unlink()
    (folder / "pytorch_lora_weights.bin").write_bytes(b"never read")
    refused(folder, "pytorch_lora_weights.bin is a LoRA adapter")


def test_an_adapter_beside_a_segmenter_is_refused(tmp_path: Path):
    folder = save_upernet(tmp_path / "net")
    save_file({"base_model.model.x.lora_A.weight": torch.zeros(2, 2)}, folder / "adapter_model.safetensors")
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors is a LoRA adapter"):
        fingerprint(str(folder))


def test_other_parts_beside_the_model_do_no_harm(folder: Path):
    for part in ("controlnet", "safety_checker", "image_encoder", "learned_embeds"):
        (folder / part).mkdir()
        save_file({"weight": torch.zeros(2)}, folder / part / "model.safetensors")
    save_file(
        {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(2)}, folder / "v1-5-pruned.safetensors"
    )
    (folder / "unet" / "diffusion_pytorch_model.non_ema.safetensors").write_bytes(
        b"a download that was stopped"
    )
    DiffusionModel(str(folder))
    fingerprint(str(folder))


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`models/` in the working directory, with three folders, and an empty model cache."""
    for name in ("sd1-5", "sd2-1", "upernet"):
        (tmp_path / "models" / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "models"


@pytest.mark.parametrize("name", ["./models/sd1", "{}/sd1", "models/../models/sd1", "../{}/sd1"])
def test_a_mistyped_folder_is_no_hub_id(models: Path, name: str):
    name = name.format(models) if name.startswith("{") else name.format(models.parent.name + "/models")
    with pytest.raises(ModelError) as caught:
        locate(name)
    assert f"there is no folder {Path(name)}; " in str(caught.value)
    assert "models has sd2-1, sd1-5" in str(caught.value) and "hf download" not in str(caught.value)


def test_a_folder_whose_parent_is_mistyped(models: Path):
    with pytest.raises(ModelError, match=r"there is no folder model; \. has models; give a folder"):
        locate("./model/sd1-5/unet")


def test_a_mistyped_folder_in_the_form_of_a_hub_id(models: Path):
    with pytest.raises(
        ModelError,
        match=r"models/sd15 at revision 'main' is not in the model cache .*`hf download models/sd15`.*"
        r"If a folder is meant: there is no folder models/sd15; models has sd1-5",
    ):
        fingerprint("models/sd15")
    with pytest.raises(
        ModelError, match=r"no UNet of models/sd15 .*there is no folder models/sd15; models has sd1-5"
    ):
        DiffusionModel("models/sd15")
    with pytest.raises(ModelError) as caught:
        fingerprint("somebody/model")
    assert "If a folder is meant" not in str(caught.value)


def test_a_single_file_checkpoint_is_not_a_folder(models: Path):
    (models / "sd.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=r"sd\.safetensors is a file; .*from_single_file"):
        locate(str(models / "sd.safetensors"))


def test_a_folder_of_something_else(tmp_path: Path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "notes.json").write_text(json.dumps({}))
    with pytest.raises(ModelError, match=r"photos has no model\.safetensors under"):
        fingerprint(str(tmp_path / "photos"))
