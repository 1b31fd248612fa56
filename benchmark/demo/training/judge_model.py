"""demo-judge's network: the published mPLUG architecture at small size, trained on many questions a picture.

In: nothing; sizes and the vocabulary are stated here. Out: the network, its loss, its answers for quick
measurements, and its files in the published layout. The layers are those of tests/fixtures/mplug_torch.py,
which the Rust judge is held to; only the order of the work differs here, so that a picture is encoded once for
all its questions. Training is left to train_judge.py.
"""

import json
import re
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2] / "tests" / "fixtures"))
from mplug_torch import Config, Mplug  # noqa: E402

PAD, UNKNOWN, START, END = 0, 100, 101, 102
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
DEVIATION = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
TOKEN = re.compile(r"[a-z0-9]+|[^a-z0-9\s]")


class Words:
    """BERT's word pieces, of which every known word is one and every other word is spelled in letters."""

    def __init__(self, texts):
        words = sorted({word for text in texts for word in TOKEN.findall(text.lower())} - {"yes", "no"})
        letters = [chr(code) for code in range(ord("a"), ord("z") + 1)] + [str(digit) for digit in range(10)]
        spelled = [piece for letter in letters for piece in (letter, "##" + letter) if piece not in words]
        others = [mark for mark in "?.,'-:;!" if mark not in words]
        special = ["[UNK]", "[CLS]", "[SEP]", "[MASK]", "yes", "no"]
        self.pieces = ["[PAD]"] + [f"[unused{n}]" for n in range(99)] + special + words + others + spelled
        self.ids = {piece: number for number, piece in enumerate(self.pieces)}
        self.yes, self.no = self.ids["yes"], self.ids["no"]
        self.known = {}

    def encode(self, text):
        if text not in self.known:
            ids = [START]
            for word in TOKEN.findall(text.lower()):
                if word in self.ids:
                    ids.append(self.ids[word])
                else:
                    spelled = [word[0]] + ["##" + letter for letter in word[1:]]
                    ids.extend(self.ids.get(piece, UNKNOWN) for piece in spelled)
            assert len(ids) < 25, f"a question longer than what the judge reads: {text}"
            self.known[text] = ids + [END]
        return self.known[text]


def config(words):
    """Sizes of demo-judge."""
    return Config(
        image_res=64, clip_vision_width=128, clip_vision_layers=2, clip_vision_patch_size=8, min_length=1,
        max_length=10, beam_size=5, hidden_size=96, num_attention_heads=3, intermediate_size=128,
        max_position_embeddings=32, type_vocab_size=2, vocab_size=len(words.pieces), num_hidden_layers=2,
        text_encoder_layers=1, fusion_layers=2, text_decode_layers=1, stride_layer=6,
    )


def new_network(words, seed):
    """Seeded starting values; norms and biases as torch makes them."""
    torch.manual_seed(seed)
    network = Mplug(config(words))
    for name, parameter in network.named_parameters():
        if "embedding" in name and parameter.ndim <= 2 and "LayerNorm" not in name:
            nn.init.normal_(parameter, std=0.05)
        elif parameter.ndim > 1:
            nn.init.xavier_uniform_(parameter)
    return network


def pixels(pictures):
    """uint8 [b, 64, 64, 3] as the network takes them, [b, 3, 64, 64]."""
    return (pictures.permute(0, 3, 1, 2).float() / 255 - MEAN) / DEVIATION


def attend(q, k, v, hidden=None):
    """softmax(q k / sqrt d) v, with f32 in the softmax only: on a processor torch's own kernel learns slower."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if hidden is not None:
        scores = scores.masked_fill(hidden, -1e4)
    return scores.softmax(-1, dtype=torch.float32).to(v.dtype) @ v


def self_attend(layer, x, hidden=None):
    """`layer.attention`; `hidden` are the keys that are not seen."""
    attention = layer.attention
    q, k, v = (attention.split(getattr(attention.self, name)(x)) for name in ("query", "key", "value"))
    return attention.finish(attend(q, k, v, hidden), x)


def cross_attend(attention, x, states):
    q = attention.split(attention.self.query(x))
    k, v = attention.split(attention.self.key(states)), attention.split(attention.self.value(states))
    return attention.finish(attend(q, k, v), x)


def image_states(network, inputs):
    """`network.image_states`, with the attention above."""
    tower = network.visual_encoder.visual
    x = tower.conv1(inputs).flatten(2).transpose(1, 2)
    x = torch.cat([tower.class_embedding.to(x.dtype).expand(len(x), 1, -1), x], dim=1)
    x = tower.ln_pre(x + tower.positional_embedding)
    for block in tower.transformer.resblocks:
        attn = block.attn
        all_three = F.linear(block.ln_1(x), attn.in_proj_weight, attn.in_proj_bias)
        q, k, v = (part.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2) for part in all_three.chunk(3, dim=-1))
        x = x + attn.out_proj(attend(q, k, v).transpose(1, 2).flatten(2))
        x = x + block.mlp.c_proj(block.curve(block.mlp.c_fc(block.ln_2(x))))
    x = tower.ln_post(x)
    return network.visn_layer_norm(network.visn_fc(x)) if network.projects else x


def embed(embeddings, ids):
    x = embeddings.word_embeddings(ids) + embeddings.token_type_embeddings.weight[0]
    return embeddings.LayerNorm(x + embeddings.position_embeddings.weight[: ids.shape[1]])


def answer_logits(network, image, ids, answers):
    """Scores of the answers' first and second word piece, [b, q, 2, vocabulary].

    `image` [b, n, width], `ids` [b, q, m] padded, `answers` [b, q]: the word piece given at the first place.
    """
    b, q, m = ids.shape
    width = image.shape[-1]
    ids = ids.flatten(0, 1)
    hidden = (ids == PAD)[:, None, None, :]
    text = embed(network.text_encoder.embeddings, ids)
    for layer in network.text_encoder.encoder.layer:
        text = layer.feed(self_attend(layer, text, hidden))
    for layer in network.fusion_encoder.encoder.layer:
        text = self_attend(layer, text, hidden)
        text = cross_attend(layer.crossattention, text.reshape(b, q * m, width), image)
        text = layer.feed(text).reshape(b * q, m, width)
    start = torch.full_like(answers, START)
    given = torch.stack([start, answers], dim=-1).flatten(0, 1)
    x = embed(network.text_decoder.bert.embeddings, given)
    causal = torch.ones(2, 2, dtype=torch.bool).triu(1)
    for layer in network.text_decoder.bert.encoder.layer:
        x = self_attend(layer, x, causal)
        x = layer.feed(look_at_both(layer.crossattention, x, image, text, hidden, q))
    return network.text_decoder.predict(x).unflatten(0, (b, q))


def look_at_both(attention, x, image, text, hidden, q):
    """Cross-attention over a picture's states and a question's behind them, in one softmax.

    Keys of a picture serve its `q` questions.
    """
    query = attention.split(attention.self.query(x))
    rows, heads, length, width = query.shape
    of_image = [attention.split(side(image)) for side in (attention.self.key, attention.self.value)]
    of_text = [attention.split(side(text)) for side in (attention.self.key, attention.self.value)]
    together = query.unflatten(0, (-1, q)).transpose(1, 2).flatten(2, 3)
    scores = (together @ of_image[0].transpose(2, 3)).unflatten(2, (q, length)).transpose(1, 2).flatten(0, 1)
    own = (query @ of_text[0].transpose(2, 3)).masked_fill(hidden, -1e4)
    chances = (torch.cat([scores, own], dim=-1).float() * attention.scale).softmax(-1).to(query.dtype)
    on_image, on_text = chances.split([scores.shape[-1], own.shape[-1]], dim=-1)
    on_image = on_image.unflatten(0, (-1, q)).transpose(1, 2).flatten(2, 3)
    mixed = (on_image @ of_image[1]).unflatten(2, (q, length)).transpose(1, 2).flatten(0, 1)
    return attention.finish(mixed + on_text @ of_text[1], x)


def padded(words, questions):
    """Ids [b, q, m] of as many questions for every picture."""
    rows = [[words.encode(text) for text in asked] for asked in questions]
    longest = max(len(row) for asked in rows for row in asked)
    return torch.tensor([[row + [PAD] * (longest - len(row)) for row in asked] for asked in rows])


def first_word(words, logits):
    """Whether the answer is yes, by the likelier of the two words, and P(yes) as the judge gives it."""
    first = logits[:, :, 0].float()
    return first[..., words.yes] > first[..., words.no], first.softmax(-1)[..., words.yes]


def write_files(folder, network, words):
    """The published layout: configurations, vocabulary, f16 weights."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    size = network.config
    own = {
        "beam_size": size.beam_size, "bert_config": "config_bert.json", "clip_name": "ViT-L-14",
        "clip_vision_layers": size.clip_vision_layers, "clip_vision_patch_size": size.clip_vision_patch_size,
        "clip_vision_width": size.clip_vision_width, "distill": "false", "image_res": size.image_res,
        "max_length": size.max_length, "min_length": size.min_length, "task": "visual-question-answering",
        "vision_width": size.clip_vision_width,
    }
    (folder / "config.yaml").write_text("".join(f"{key}: {value}\n" for key, value in own.items()))
    bert = {"hidden_act": "gelu", "pad_token_id": PAD, "encoder_width": size.hidden_size}
    for key in (
        "hidden_size", "intermediate_size", "layer_norm_eps", "max_position_embeddings", "num_attention_heads",
        "num_hidden_layers", "type_vocab_size", "vocab_size", "text_encoder_layers", "fusion_layers",
        "text_decode_layers", "stride_layer",
    ):
        bert[key] = getattr(size, key)
    kind = "visual-question-answering"
    wrapper = {"framework": "pytorch", "task": kind, "model": {"type": "mplug"}, "pipeline": {"type": kind}}
    for name, value in (("config_bert.json", bert), ("configuration.json", wrapper)):
        (folder / name).write_text(json.dumps(value, indent=1) + "\n")
    (folder / "vocab.txt").write_text("\n".join(words.pieces) + "\n")
    tensors = {name: value.half().contiguous().clone() for name, value in network.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
