"""What the paper claims holds in the demo world, on prompts no model has seen and seeds nobody has looked at.

Half an hour on two cores: ``python3 loom.py test -m slow``. ``docs/claims.md`` has the last figures.
"""

from __future__ import annotations

import random

import pytest
import torch

pytestmark = pytest.mark.slow

SEEDS = 3


@pytest.fixture(scope="module")
def first_seed() -> int:
    return random.SystemRandom().randrange(10_000, 2**31)


@pytest.fixture(scope="module")
def rows(tmp_path_factory, first_seed) -> dict[tuple[str, str], object]:
    from pack.demo.assemble import assemble
    from pack.demo.claims import Claims
    from pack.demo.clips import held_back_prompts
    from pack.demo.studio import Studio

    folder = tmp_path_factory.mktemp("models")
    assemble(folder)
    claims = Claims(Studio(folder, dtype=torch.bfloat16), held_back_prompts(), range(first_seed, first_seed + SEEDS))
    return {(row.claim, row.measure): row for row in claims.rows()}


CLAIMS = [
    "text controls the motion",
    "look is preserved",
    "temporally smooth",
    "smoother than Text2Video-Zero",
    "any personalised model, no fine-tuning",
    "resolution independent, 1.5x",
    "resolution independent, 2x",
    "base model frozen",
    "zero initialisation",
]


@pytest.mark.parametrize("claim", CLAIMS)
def test_claim_holds(rows, first_seed, claim):
    found = [row for (name, _), row in rows.items() if name == claim]
    assert found
    assert [row for row in found if not row.holds] == [], f"with the seeds from {first_seed} on"


def test_every_claim_is_listed(rows):
    assert {claim for claim, _ in rows} == set(CLAIMS)
