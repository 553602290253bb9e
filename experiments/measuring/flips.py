"""Training images that one network gets right in train mode and wrong in eval mode, its weights frozen."""

import base64
import io

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.data import Data
from experiments.measuring.evaluate import train_mode_pass
from experiments.members import Member
from experiments.networks.network import Network
from experiments.settings.recipe import Recipe
from experiments.training.stack import ChunkNoise
from experiments.training.train import epoch_batches, stacked_batches

LARGEST_SIDE = 64  # pixels of an image as it is kept; larger ones are averaged down


@torch.no_grad()
def find_flips(
    stack: Network, members: list[Member], noise: ChunkNoise, data: Data, recipe: Recipe, wanted: int
) -> list[list[dict]]:
    """Return for each member the rows of flips.csv: at most `wanted` images, the paper's Figure 6.

    One epoch of batches is judged twice: in train mode (noise on, every BN normalising by its batch) and in eval
    mode. `lost` is the percentage of images right in train mode and wrong in eval mode, `won` that of the
    opposite; the rows are the first lost images in the order of the batches, which is that of the seed. A member
    that loses none has no row. With `wanted` 0 nothing is judged, and there are no lists.
    """
    if wanted == 0:
        return []
    device, batch = data.train_inputs.device, recipe.batch_size
    order = {m.seed: epoch_batches(m.seed, "flips", len(data.train_inputs), batch, device) for m in members}
    passed = train_mode_pass(stack, members, noise, data, batch, order="flips", draw="flips")
    in_train = torch.cat([logits for logits, _ in passed], 1)  # [members, samples, classes]
    stack.eval()
    batches = stacked_batches(data, members, "flips", batch)
    in_eval = torch.cat([stack(inputs) for inputs, _ in batches], 1)
    found = []
    for index, member in enumerate(members):
        samples = order[member.seed].flatten()
        labels = data.train_labels[samples]
        right_in_train, right_in_eval = (x[index].argmax(-1) == labels for x in (in_train, in_eval))
        lost = right_in_train & ~right_in_eval
        shares = {
            "lost": 100 * lost.double().mean().item(),
            "won": 100 * (right_in_eval & ~right_in_train).double().mean().item(),
        }
        found.append(
            [
                {
                    **shares,
                    "sample": int(samples[place]),
                    "label": int(labels[place]),
                    "eval_mode_class": int(in_eval[index, place].argmax()),
                    "logits_train_mode": _numbers(in_train[index, place]),
                    "logits_eval_mode": _numbers(in_eval[index, place]),
                    "image": png_text(data, data.train_inputs[samples[place]]),
                }
                for place in lost.nonzero().flatten()[:wanted].tolist()
            ]
        )
    return found


def png_text(data: Data, sample: Tensor) -> str:
    """Return an image of a data set, [channel, height, width], as a PNG in base64; "" for what is no image."""
    if data.pixel_mean is None or data.pixel_std is None:
        return ""
    from PIL import Image

    pixels = (sample * data.pixel_std + data.pixel_mean).cpu()
    if (side := max(pixels.shape[1:])) > LARGEST_SIDE:
        height, width = (max(1, size * LARGEST_SIDE // side) for size in pixels.shape[1:])
        pixels = F.adaptive_avg_pool2d(pixels, (height, width))
    array = pixels.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(array.squeeze(-1) if array.shape[-1] == 1 else array).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _numbers(logits: Tensor) -> str:
    return " ".join(f"{value:.5g}" for value in logits.tolist())
