"""What a run warns of reaches whoever queued it."""

from __future__ import annotations

from .world import animation, changed, rerun, run

NOTICES = "animatediff_loom_notices"


def test_notices_are_in_the_history_entry_once_a_prompt(client):
    prompt = changed(animation(), "sampled", steps=1)
    prompt["again"] = changed(prompt, "sampled", seed=6)["sampled"]  # says the same of its own run
    prompt["more frames"] = changed(prompt, "frames", frames=18)["frames"]
    prompt["longer"] = changed(prompt, "sampled", latent_image=["more frames", 0])["sampled"]
    for name in ("again", "longer"):
        prompt[f"{name} saved"] = changed(prompt, "saved", samples=[name, 0])["saved"]
    ran = rerun(client, prompt)
    notices = ran.entry["prompt"][3][NOTICES]
    said = sorted((notice["severity"], notice["text"]) for notice in notices)
    assert [severity for severity, _ in said] == ["info", "warn"]
    assert said[0][1].startswith("18 frames are more than the 16 that motion model 'tiny_v3.safetensors' was trained on. They are")
    assert said[1][1].startswith("4 frames are few for 'tiny_v3.safetensors'")
    assert {notice["node"] for notice in notices} <= prompt.keys()
    assert NOTICES not in run(client, ran.prompt).entry["prompt"][3]  # all of it from the cache
