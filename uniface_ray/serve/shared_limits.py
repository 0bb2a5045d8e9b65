"""The Ray shell of `limits`: one actor that counts for all replicas."""

import ray

from uniface_ray.serve.limits import Gate, Limits, Rule, Turn

_NAME, _NAMESPACE = "uniface-limits", "uniface"


def shared_gate(rule: Rule) -> Gate:
    """The way in for a replica of a server that has several; the first one starts the actor.

    It outlives them, and rules come with each call: a replica with newer settings needs no new actor.
    """
    actor = (
        ray.remote(Limits)
        .options(name=_NAME, namespace=_NAMESPACE, get_if_exists=True, lifetime="detached", num_cpus=0, max_restarts=-1)
        .remote()
    )

    async def enter(name: str, rule: Rule) -> Turn:
        turn: Turn = await actor.enter.remote(name, rule)
        return turn

    return Gate(rule, enter, actor.leave.remote)


__all__ = ["shared_gate"]
