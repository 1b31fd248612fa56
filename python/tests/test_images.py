"""Every way in which Python holds an image gives the same pixels, and what is no image is refused in one sentence."""

import numpy
import PIL.Image
import pytest
from conftest import contents, image

import dpg_bench


class Tensor:
    """What speaks DLPack alone, as the tensors of PyTorch do."""

    def __init__(self, array):
        self.array, self.shape = array, array.shape

    def __dlpack__(self):
        return self.array.__dlpack__()

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def forms():
    pixels = image(7)[:48]
    floats = pixels / 255
    planes = numpy.ascontiguousarray(pixels.transpose(2, 0, 1))
    yield "bytes", pixels
    yield "fortran order", numpy.asfortranarray(pixels)
    yield "every other row", numpy.repeat(pixels, 2, axis=0)[::2]
    yield "read only", numpy.frombuffer(pixels.tobytes(), numpy.uint8).reshape(pixels.shape)
    yield "planes", planes
    yield "float64", floats
    yield "float32", floats.astype(numpy.float32)
    yield "planes of float32", (planes / 255).astype(numpy.float32)
    yield "pillow", PIL.Image.fromarray(pixels)
    yield "pillow with alpha", PIL.Image.fromarray(pixels).convert("RGBA")
    yield "tensor", Tensor(pixels)
    yield "tensor of float32", Tensor((planes / 255).astype(numpy.float32))
    yield "tensor with strides", Tensor(floats.transpose(2, 0, 1))
    yield "list", [pixels]
    yield "batch", pixels[None]
    yield "batch of tensors", (Tensor(planes),)


def test_all_forms_of_an_image_are_the_same(tmp_path, demo, scripted):
    one = demo.select(limit=1)
    runs = {}
    for name, form in forms():
        out = tmp_path / name.replace(" ", "-")
        dpg_bench.evaluate({one.items[0].id: form}, benchmark=one, judge=scripted, out=out)
        runs[name] = contents(out)
    for name, run in runs.items():
        assert run == runs["bytes"], name
    stored = tmp_path / "bytes" / "images" / one.items[0].id / "0.png"
    assert (numpy.asarray(PIL.Image.open(stored)) == image(7)[:48]).all()


def test_floats_are_rounded_as_diffusers_rounds(tmp_path, demo, scripted):
    one = demo.select(limit=1)
    floats = numpy.random.default_rng(1).random((64, 64, 3), numpy.float32)
    floats.flat[:5] = [0, 1, 0.5 / 255, 1.5 / 255, 2.5 / 255]
    for number, given in enumerate([floats, floats.astype(numpy.float16), floats.astype(numpy.float64)]):
        out = tmp_path / str(number)
        dpg_bench.evaluate({one.items[0].id: given}, benchmark=one, judge=scripted, out=out)
        stored = numpy.asarray(PIL.Image.open(out / "images" / one.items[0].id / "0.png"))
        wide = given.astype(numpy.float32) if given.dtype == numpy.float16 else given
        assert (stored == (wide * 255).round().astype(numpy.uint8)).all()


def test_tensors_of_torch(tmp_path, demo, scripted):
    torch = pytest.importorskip("torch", reason="torch is not installed: its tensors are not tried")
    one = demo.select(limit=1)
    pixels = torch.from_numpy(image(7))
    planes = pixels.permute(2, 0, 1)
    # Every byte comes back from 8 bits of mantissa.
    tensors = {
        "bytes": pixels,
        "planes": planes,
        "floats": planes / 255,
        "with-gradient": (planes / 255).requires_grad_(),
        "bfloat16": (planes / 255).to(torch.bfloat16).float().mul(255).round().div(255),
        "batch": planes[None].double() / 255,
    }
    if torch.cuda.is_available():
        tensors["on-a-gpu"] = planes.cuda() / 255
    runs = {}
    for name, tensor in tensors.items():
        dpg_bench.evaluate({one.items[0].id: tensor}, benchmark=one, judge=scripted, out=tmp_path / name)
        runs[name] = contents(tmp_path / name)
    half = (planes / 255).to(torch.bfloat16)
    dpg_bench.evaluate({one.items[0].id: half}, benchmark=one, judge=scripted, out=tmp_path / "half")
    stored = numpy.asarray(PIL.Image.open(tmp_path / "half" / "images" / one.items[0].id / "0.png"))
    assert (stored == (half.float() * 255).round().byte().permute(1, 2, 0).numpy()).all()
    del runs["bfloat16"]
    assert all(run == runs["bytes"] for run in runs.values())


WRONG = [
    (numpy.zeros((64, 64), numpy.uint8), r"shape \[64, 64\]"),
    (numpy.zeros((64, 64, 4), numpy.uint8), r"shape \[64, 64, 4\]"),
    (numpy.zeros((3, 64, 3), numpy.uint8), "either order"),
    (numpy.zeros((0, 64, 3), numpy.uint8), "a side has 1 to"),
    (numpy.zeros((64, 64, 3), numpy.int64), "samples of the kind `l`"),
    (numpy.full((64, 64, 3), numpy.nan), "holds NaN"),
    (numpy.full((64, 64, 3), 1.01), "holds 1.01; floats of an image are from 0 to 1"),
    (numpy.full((64, 64, 3), -1.0, numpy.float32), "holds -1"),
    (Tensor(numpy.zeros((64, 64, 3), numpy.int32)), "samples of 32 bits"),
    (b"bytes", "shape"),
    ("a path", "is a str, no image of Pillow, array or tensor"),
    (None, "is a NoneType"),
    ([], "0 images given where the run has"),
]


@pytest.mark.parametrize(("wrong", "sentence"), WRONG)
def test_what_is_no_image_is_refused(demo, scripted, wrong, sentence):
    first = demo.select(limit=1).items[0].id
    with pytest.raises(ValueError, match=sentence) as refused:
        dpg_bench.evaluate({first: wrong}, benchmark=demo, judge=scripted, images_per_item=1)
    assert first in str(refused.value) and "\n" not in str(refused.value)
