"""The networks of demo-sd and demo-ella, untrained, and the heads that their text encoders are prepared with.

In: nothing. Out: modules of diffusers and transformers, and ELLA's connector (arXiv 2403.05135) with the
tensor names of the published file.
"""

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

import world
from tokenizers_of_words import WINDOW
from train_vae import CHANNELS

WIDTH = 128
LATENT_SIZE = 8
TSC_TOKENS = 24
TSC_DEPTH = 2
SINUSOIDS = 320

SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


def schedule():
    return DDIMScheduler(**SCHEDULE)


def clip_text(vocabulary, start, end):
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=WINDOW,
            hidden_act="quick_gelu",
            projection_dim=WIDTH,
            bos_token_id=start,
            eos_token_id=end,
            pad_token_id=end,
        )
    )


def t5_text(pieces):
    return T5EncoderModel(
        T5Config(
            vocab_size=pieces,
            d_model=WIDTH,
            d_kv=32,
            d_ff=256,
            num_layers=4,
            num_heads=4,
            relative_attention_num_buckets=32,
            relative_attention_max_distance=128,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
            tie_word_embeddings=True,
            use_cache=False,
            is_encoder_decoder=False,
        )
    )


def unet():
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(96, 48),
        layers_per_block=1,
        attention_head_dim=4,
        cross_attention_dim=WIDTH,
        norm_num_groups=16,
    )


class SceneHead(nn.Module):
    """Reads a scene off a text's hidden states: a query for each quadrant and one for the whole picture.

    Only for training a text encoder on text alone; it is thrown away afterwards.
    """

    def __init__(self):
        super().__init__()
        self.queries = nn.Parameter(torch.randn(5, WIDTH) * 0.5)
        self.attention = nn.MultiheadAttention(WIDTH, 4, batch_first=True)
        self.norm = nn.LayerNorm(WIDTH)
        self.shape = nn.Linear(WIDTH, len(world.SHAPES) + 1)
        self.colour = nn.Linear(WIDTH, len(world.COLOURS))
        self.form = nn.Linear(WIDTH, len(world.FORMS))
        self.background = nn.Linear(WIDTH, len(world.BACKGROUNDS))
        self.frame = nn.Linear(WIDTH, 2)

    def forward(self, states, ignored=None):
        queries = self.queries.expand(len(states), -1, -1)
        seen = self.norm(queries + self.attention(queries, states, states, key_padding_mask=ignored, need_weights=False)[0])
        return seen[:, :4], seen[:, 4]

    def loss(self, states, rows, ignored=None):
        """Cross-entropy of every field, and the shares of right quadrants and of right scenes."""
        quadrants, whole = self(states, ignored)
        rows = rows.long()
        shapes, colours, forms = rows[:, 2::4], rows[:, 3::4], rows[:, 4::4]
        there = shapes >= 0
        shape, colour, form = self.shape(quadrants), self.colour(quadrants), self.form(quadrants)
        loss = F.cross_entropy(shape.flatten(0, 1), torch.where(there, shapes, len(world.SHAPES)).flatten())
        loss = loss + F.cross_entropy(colour[there], colours[there]) + F.cross_entropy(form[there], forms[there])
        background, frame = self.background(whole), self.frame(whole)
        loss = loss + 0.5 * F.cross_entropy(background, rows[:, 0]) + 0.5 * F.cross_entropy(frame, rows[:, 1])
        right = shape.argmax(-1) == torch.where(there, shapes, len(world.SHAPES))
        right &= ~there | ((colour.argmax(-1) == colours) & (form.argmax(-1) == forms))
        return loss, right.float().mean()


class NounHead(nn.Module):
    """Reads off a noun's hidden state what its thing is like and where it stands; thrown away like `SceneHead`.

    A caption tells that in other places of the text. Without this the encoder hardly finds out that it should look.
    """

    def __init__(self):
        super().__init__()
        self.fields = nn.Linear(WIDTH, 4 + len(world.COLOURS) + len(world.FORMS))

    def forward(self, states, shapes, rows):
        """The cross-entropies. `shapes` [texts, tokens]: the shape that a token names, -1 where it names none."""
        rows = rows.long()
        # An empty quarter has the shape -1, as a token has that is no noun.
        named = (shapes[:, :, None] == rows[:, None, 2::4]) & (shapes >= 0)[:, :, None]
        at = named.any(-1)
        quadrant = named[at].int().argmax(-1)
        of = at.nonzero()[:, 0]
        parts = self.fields(states[at]).float().split((4, len(world.COLOURS), len(world.FORMS)), -1)
        wanted = [quadrant, rows[of, 3 + 4 * quadrant], rows[of, 4 + 4 * quadrant]]
        # The place is learned last, often from where another thing stands.
        return sum(w * F.cross_entropy(part, what) for w, part, what in zip((2, 1, 1), parts, wanted))


class TimeAwareNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.linear = nn.Linear(width, 2 * width)
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)

    def forward(self, x, time):
        shift, scale = self.linear(F.silu(time)).chunk(2, dim=-1)
        return self.norm(x) * (1 + scale) + shift


class FeedForward(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.c_fc, self.c_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        return self.c_proj(F.relu(self.c_fc(x)) ** 2)


class ConnectorBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.attn = nn.MultiheadAttention(width, num_heads=8, batch_first=True)
        self.mlp = FeedForward(width)
        self.ln_1, self.ln_2, self.ln_ff = (TimeAwareNorm(width) for _ in range(3))
        # Where `watched`, what the tokens attended to, [n, tokens, tokens + text], the mean of all heads.
        self.watched, self.weights = False, None

    def forward(self, latents, text, time):
        normed = self.ln_1(latents, time)
        seen = torch.cat([normed, self.ln_2(text, time)], dim=1)
        found, self.weights = self.attn(normed, seen, seen, need_weights=self.watched)
        latents = latents + found
        return latents + self.mlp(self.ln_ff(latents, time))


class Resampler(nn.Module):
    def __init__(self, width, depth, tokens, text):
        super().__init__()
        self.latents = nn.Parameter(torch.randn(tokens, width) * width**-0.5)
        self.time_aware_linear = nn.Linear(width, width)
        self.proj_in = nn.Linear(text, width)
        self.perceiver_blocks = nn.ModuleList(ConnectorBlock(width) for _ in range(depth))

    def forward(self, text, time):
        latents = self.latents + self.time_aware_linear(F.silu(time))
        text = self.proj_in(text)
        for block in self.perceiver_blocks:
            latents = block(latents, text, time)
        return latents


class Connector(nn.Module):
    """T5's hidden states [n, length, width] and timesteps [n] to what the UNet attends to [n, tokens, width]."""

    def __init__(self, tokens=TSC_TOKENS, depth=TSC_DEPTH):
        super().__init__()
        self.position = Timesteps(SINUSOIDS, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(SINUSOIDS, WIDTH)
        self.connector = Resampler(WIDTH, depth, tokens, WIDTH)

    def forward(self, text, timesteps):
        position = self.position(timesteps.float()).to(text.dtype)
        time = self.time_embedding(position).unsqueeze(1).expand(len(text), -1, -1)
        return self.connector(text, time)
