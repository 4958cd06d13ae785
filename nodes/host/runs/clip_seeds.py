"""Seeds of clips that are sampled together."""

MAX_SEED = 0xFFFFFFFFFFFFFFFF


def clip_seed(seed: int, clip: int) -> int:
    """Seed of one clip of a batch; the first has the batch's own."""
    return (seed + clip) & MAX_SEED
