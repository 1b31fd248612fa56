"""ModelScope's own mPLUG against tests/fixtures/mplug_torch.py, on random weights.

    python scripts/mplug_against_original.py

In: an environment with modelscope 1.15 and transformers 4.46 (modelscope's other packages that its import asks
for - yapf, gast, addict, simplejson, sortedcontainers, timm, ftfy, rapidfuzz, attrs, einops, datasets - and
transformers' tokenizer). Out: for three shapes - one that never joins image and text, two that do - the number of
questions, the answers that differ (there must be none), and the largest difference among image states, fused
states and the scores of the best answers. The vision tower has its published width, which the original fixes, and
two layers.
"""

import importlib.machinery
import json
import sys
import tempfile
import types
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests/fixtures"))
# Imported by modelscope, used by none of this.
for name in ("ofa", "decord", "librosa", "soundfile", "oss2"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__spec__ = importlib.machinery.ModuleSpec(name, None)

import torch  # noqa: E402
from modelscope.models.multi_modal.mplug.modeling_mplug import MPlug  # noqa: E402
from transformers import BertTokenizer  # noqa: E402

from make_mplug import QUESTIONS, VOCABULARY, fill  # noqa: E402
from mplug_torch import START, Config, Mplug  # noqa: E402

YAML = dict(
    image_res=42, clip_name="ViT-L-14", vision_width=1024, clip_vision_width=1024, clip_vision_layers=2,
    clip_vision_patch_size=14, min_length=1, max_length=10, distill="false", clip_transformer_width=64,
    clip_transformer_heads=1, clip_transformer_layers=1, clip_embed_dim=64,
)
BERT = dict(
    hidden_act="gelu", hidden_size=64, intermediate_size=96, layer_norm_eps=1e-12, max_position_embeddings=32,
    num_attention_heads=4, pad_token_id=0, type_vocab_size=2, vocab_size=len(VOCABULARY), encoder_width=64,
    text_encoder_layers=2, text_decode_layers=2, attention_probs_dropout_prob=0.1, hidden_dropout_prob=0.1,
    add_cross_attention=False, use_cache=False,
)


def compare(stride, fusion_layers, hidden_layers, beams):
    folder = Path(tempfile.mkdtemp())
    yaml = YAML | {"beam_size": beams}
    (folder / "config.yaml").write_text("".join(f"{key}: {value}\n" for key, value in yaml.items()))
    layers = {"stride_layer": stride, "fusion_layers": fusion_layers, "num_hidden_layers": hidden_layers}
    (folder / "config_bert.json").write_text(json.dumps(BERT | layers))
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    original = MPlug.from_pretrained(str(folder), task="visual-question-answering", load_checkpoint=False)
    fill(original.eval(), torch.Generator().manual_seed(3))
    ours = Mplug(Config.read(folder)).eval()
    missing = ours.load_state_dict(original.state_dict(), strict=False).missing_keys
    assert not missing, missing
    seen = {}
    original.visn_layer_norm.register_forward_hook(lambda module, x, y: seen.update(image=y.clone()))
    original.fusion_encoder.register_forward_hook(
        lambda module, x, y: seen.update(fused=torch.cat([part.clone() for part in y[:2]], dim=1))
    )
    tokenizer = BertTokenizer(str(folder / "vocab.txt"))
    generator = torch.Generator().manual_seed(9)
    largest, count, other, taken = 0.0, 0, 0, set()
    for _ in range(4):
        pixels = torch.randn(1, 3, 42, 42, generator=generator)
        image = ours.image_states(pixels)
        for _, text in QUESTIONS:
            question = tokenizer(
                text.lower(), padding="max_length", truncation=True, max_length=25, return_tensors="pt"
            )
            length = int(question["attention_mask"].sum())
            sequences, scores = original(pixels, question, train=False)
            states, mask = ours.question_states(image, question["input_ids"], [length])
            hypotheses, steps = ours.answer(states, mask)
            valid = slice(0, image.shape[1] + length)
            differences = [seen["image"] - image, (seen["fused"] - states)[:, valid]]
            score, best = hypotheses[0]
            differences.append(torch.tensor(float(scores[0][0]) - score))
            largest = max([largest] + [difference.abs().max().item() for difference in differences])
            answer = [token for token in sequences[0][0].tolist() if token != START]
            other += answer != best[1:]
            count += 1
            taken.add(steps)
    print(f"stride {stride}, layers {fusion_layers} of {hidden_layers}, {beams} beams: {count} questions, "
          f"{other} other answers, steps {sorted(taken)}, largest difference {largest:.1e}")
    assert other == 0 and largest < 5e-5


if __name__ == "__main__":
    with torch.no_grad():
        compare(6, 3, 4, 5)
        compare(2, 4, 5, 3)
        compare(3, 4, 4, 5)
