#!/usr/bin/env python3
"""Writes the first inputs of the fuzzers, from the test data: python fuzz/seeds.py OUT (OUT/<target>/<name>)."""

import hashlib
import json
import struct
import sys
import zipfile
from pathlib import Path

FIXTURES = Path(__file__).resolve().parent.parent / "tests/fixtures"
OUT = Path(sys.argv[1])


def seed(target, name, data):
    folder = OUT / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def read(name):
    return (FIXTURES / name).read_bytes()


def lines(*records):
    return "".join(json.dumps(record, separators=(",", ":")) + "\n" for record in records).encode()


HEADS = ("item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language\n")
seed("questions", "odd", read("scoring/odd_questions.csv"))
seed("questions", "small", (HEADS + 'a,"a, b",,1,0,,,entity - whole (a),Is it?\na,,,2,"1, 3",,,"other - count (a, ==2)",Two?\nb,,,1,0,,,global - (x),?\n').encode())
seed("questions", "sound", (HEADS + 'a,"a, b",,1,0,,,entity - whole (a),Is it?\n'
                            'a,"a, b",,2,"1,3",,,"other - count (a, ==2)",Two?\na,"a, b",,3,1,,,"attribute - color (a, red)",Red?\n'
                            'b,"a ""dog""",,1,0,,,global - (x),A photo?\n').encode())
seed("questions", "cycle", (HEADS + "a,p,,1,2,,,entity - whole (a),?\na,p,,2,1,,,entity - whole (a),?\n").encode())
seed("questions", "nonsense", b"no,such,columns\n1,2,3\n")

seed("detail_log", "log", b"\0" + read("scoring/odd_detail.txt"))
seed("detail_log", "results", b"\1" + read("scoring/odd_results.txt"))
seed("detail_log", "table", b"\2" + b"| category | SD | ELLA |\n|---|---|---|\n| global | 74.6 | 83.7 |\n| entity - whole | 74.2 | 84.6 |\nscore 63.18\n")
seed("detail_log", "nothing", b"\0nothing of the kind\n")

done = {"state": "done", "pixels_sha256": "0" * 64, "width": 4, "height": 4, "seed": 3, "prompt_tokens": 9, "truncated": False, "source": None}
seed("images_journal", "sound", lines({"format_version": "1.0", "kind": "images"}, {"item": "a", "image": 0, "outcome": done},
                                      {"item": "a", "image": 1, "outcome": {"state": "failed", "reason": "x"}}))
seed("images_journal", "torn", lines({"format_version": "1.0", "kind": "images"}, {"item": "a", "image": 0, "outcome": done})[:-7])
seed("images_journal", "newer", lines({"format_version": "2.0", "kind": "images"}))
answer = {"question": 1, "outcome": {"state": "answered", "text": "yes", "raw": "Yes.", "yes_probability": 0.5}, "tokens_cut": 2}
failed = {"question": 2, "outcome": {"state": "failed", "reason": "time-out"}}
seed("answers_journal", "sound", lines({"format_version": "1.0", "kind": "answers"},
                                       {"item": "a", "image": 0, "pixels_sha256": "p", "answers": [answer, failed]},
                                       {"item": "a", "image": 1, "pixels_sha256": None, "answers": []}))
seed("answers_journal", "mixed", lines({"format_version": "1.0", "kind": "answers"},
                                       {"item": "a", "image": 0, "pixels_sha256": "p", "answers": [answer]},
                                       {"item": "a", "image": 0, "pixels_sha256": "q", "answers": [answer]}))
manifest = {"format_version": "1.0", "tool": "dpg-bench 0.1.0", "git_commit": None, "created": "2026-01-01T00:00:00Z",
            "benchmark": {"path": "x.csv", "digest": "0" * 64, "official": False, "items": 1, "questions": 2, "lenient": False},
            "selection": {"limit": 3}, "images_per_item": 4,
            "generation": {"settings": {"steps": 20}, "sittings": [{"started": "2026-01-01T00:00:00Z", "tool": "t", "git_commit": None,
                           "device": "cpu", "seconds": 1.5, "images_done": 4, "images_failed": None}]},
            "judges": {"scripted": {"settings": {}, "sittings": []}, "../x": {"settings": {}, "sittings": []}}}
seed("manifest", "sound", json.dumps(manifest).encode())
seed("manifest", "newer", b'{"format_version":"7.0"}')

seed("tokenizers", "clip", b"\0" + read("sd15-tiny/tokenizer/vocab.json") + b"\0" + read("sd15-tiny/tokenizer/merges.txt"))
seed("tokenizers", "special", b"\2" + read("sd15-tiny/tokenizer/tokenizer_config.json") + b"\0" + read("sd15-tiny/tokenizer/special_tokens_map.json"))
seed("tokenizers", "spiece", b"\4" + read("ella-tiny/spiece-plain.model"))
seed("tokenizers", "spiece_mapped", b"\4" + read("ella-tiny/text_encoder/spiece.model"))
seed("tokenizers", "words", b"\5" + read("blip-vqa-tiny/vocab.txt"))
unigram = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None, "pre_tokenizer": None,
           "post_processor": None, "decoder": None, "model": {"type": "Unigram", "unk_id": 2, "vocab": [["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], ["a", -1.5]]}}
seed("tokenizers", "t5_json", b"\3" + json.dumps(unigram).encode())
pairs = dict(unigram, model={"type": "BPE", "unk_token": None, "vocab": {"<|startoftext|>": 0, "<|endoftext|>": 1, "a": 2, "b": 3, "ab": 4}, "merges": [["a", "b"]]})
seed("tokenizers", "clip_json", b"\1" + json.dumps(pairs).encode())

scheduler = json.loads(read("sd15-tiny/scheduler/scheduler_config.json"))
for number, name in enumerate(["PNDMScheduler", "DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler"]):
    seed("configs", f"scheduler{number}", b"\0" + json.dumps({"_class_name": name, "num_train_timesteps": 40, "beta_start": 0.001,
         "beta_end": 0.02, "beta_schedule": "scaled_linear", "steps_offset": 1}).encode())
seed("configs", "scheduler", b"\0" + json.dumps(scheduler).encode())
for kind, name in [(1, "sd15-tiny/unet"), (1, "sdxl-tiny/unet"), (2, "sd15-tiny/vae"), (3, "sd15-tiny/text_encoder"),
                   (4, "ella-tiny/text_encoder"), (5, "blip-vqa-tiny"), (7, "qwen3-vl-tied"), (7, "qwen3-vl-untied")]:
    seed("configs", name.replace("/", "-"), bytes([kind]) + read(f"{name}/config.json"))
seed("configs", "mplug", b"\6" + read("mplug-tiny/base/config.yaml") + b"\0" + read("mplug-tiny/base/config_bert.json"))
seed("configs", "model_file", b"\x08" + b'name = "x"\nmodel = "sd15"\ncheckpoint = "a"\nloras = [{file = "b", scale = 0.5}]\n[settings]\nsteps = 20\n')
seed("configs", "recipe", b"\x09" + b'{"folder":null,"files":["a"],"names":{"x":"y"},"forms":{"x":{"Part":{"number":0,"of":3}},"y":"Transposed"},"additions":{},"rows":{}}')
seed("configs", "index", b"\x0a" + read("ella-tiny/t5-relu/model.safetensors.index.json"))


def tensors(header, data=b"\0" * 64):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


seed("safetensors", "sound", tensors({"w": {"dtype": "F32", "shape": [2, 4], "data_offsets": [0, 32]}, "half": {"dtype": "F16", "shape": [16], "data_offsets": [32, 64]}, "__metadata__": {"a": "b"}}))
seed("safetensors", "gap", tensors({"w": {"dtype": "F32", "shape": [2, 4], "data_offsets": [4, 36]}}))
seed("safetensors", "huge", tensors({"w": {"dtype": "F32", "shape": [1 << 62, 8], "data_offsets": [0, 32]}}))

# One tensor of 8 x 8 over storage 0, written out by hand: {"weight": _rebuild_tensor_v2(storage, 0, (8, 8), (8, 1), False, OrderedDict())}.
text = lambda word: b"X" + struct.pack("<I", len(word)) + word.encode()
seed("pickle", "sound", b"\x80\x02}" + text("weight") + b"ctorch._utils\n_rebuild_tensor_v2\n(("
     + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K@tQK\0K\x08K\x08\x86K\x08K\x01\x86\x89"
     + b"ccollections\nOrderedDict\n)RtRs.")

for name in ["bare", "model", "module", "prefixed", "protocol4", "protocol5", "whole_module"]:
    path = FIXTURES / f"pickle/{name}.bin"
    seed("checkpoint_archive", name, path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        pickle = next(entry for entry in archive.namelist() if entry.endswith("data.pkl"))
        seed("pickle", name, archive.read(pickle))

for path in sorted((FIXTURES / "pictures").iterdir()) + sorted((FIXTURES / "import").glob("*.webp")):
    if path.suffix != ".json":
        seed("pictures", path.name, path.read_bytes())

sample = read("audit/sample.json")
header = {"format_version": "1.0", "kind": "audit labels", "sample": hashlib.sha256(sample).hexdigest()}
label = {"item": "a", "image": 0, "question": 1, "text": "Is it?", "pixels_sha256": "p", "annotator": "ann",
         "time": "2026-01-31T09:30:00.250Z", "label": "yes"}
other = label | {"question": 2, "text": "Two \"dogs\"?", "annotator": "\u674e-2", "label": "cannot_tell"}
seed("audit_files", "sample", b"\0" + sample)
seed("audit_files", "twice", b"\0" + sample.replace(b'"question": 2', b'"question": 1'))
seed("audit_files", "labels", b"\1" + lines(header, label, other, label | {"label": "withdrawn"}))
seed("audit_files", "torn", b"\1" + lines(header, label, other)[:-9])
seed("audit_files", "another", b"\1" + lines(header | {"sample": "0"}, label))
seed("audit_files", "unasked", b"\1" + lines(header, label | {"question": 3}))
seed("audit_files", "newer", b"\1" + lines(header | {"format_version": "2.0"}))
body = json.dumps(label).encode()
post = b"POST /0123456789abcdef/labels HTTP/1.1\r\nHost: localhost:8137\r\nOrigin: http://localhost:8137\r\nContent-Type: application/json\r\n"
seed("audit_requests", "page", b"GET /0123456789abcdef/ HTTP/1.1\r\nHost: 127.0.0.1:8137\r\nAccept: */*\r\n\r\n")
seed("audit_requests", "label", post + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
seed("audit_requests", "chunked", post + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
seed("audit_requests", "twice", post + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab")
seed("audit_requests", "endless", post + b"Content-Length: 99999999999999999999999\r\n\r\nab")
