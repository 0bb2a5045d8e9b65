"""What an engine will run, looked at before anybody waits for it.

Of the libraries, a kind imports those of its models, which take seconds: see `build`.
"""

import hashlib

from uniface_ray.core.config import JobConfig
from uniface_ray.core.engine_config import RemoteConfig
from uniface_ray.core.errors import UserError
from uniface_ray.core.storage_errors import explain
from uniface_ray.core.task_config import MeasureConfig, VqaConfig
from uniface_ray.engine.adapters import check_adapter, split
from uniface_ray.engine.null import IMAGE_SIZE
from uniface_ray.engine.remote import RemoteEngine
from uniface_ray.engine.weights import CheckedModel, check_model


def check_engine(config: JobConfig) -> CheckedModel:
    """What the engine will run, looked at before anybody waits for it.

    Raises:
        UserError: a model that is not there or not whole; a server that is not named or cannot be used; a form of
            answers that cannot be kept to.
    """
    if isinstance(config.task, VqaConfig):
        _check_form(config.task, config.engine.kind)
    kind = config.engine.kind
    if kind in ("openai", "transformers") and config.task.name not in ("caption", "vqa"):
        raise UserError(f"engine.kind is {kind}, which answers questions, but cannot {config.task.name}: use uniface")
    if config.model.adapter is not None and kind in ("openai", "transformers"):
        raise UserError(f"engine.kind is {kind}, but model.adapter is for models of kind uniface: leave it out")
    if kind == "openai":
        return _check_remote(config.remote)
    if kind == "null" and not isinstance(config.task, MeasureConfig):  # what is measured is read as the model reads it
        return CheckedModel(IMAGE_SIZE, hashlib.sha256(b"null").hexdigest())
    if kind == "transformers":
        from uniface_ray.engine.chat_model import check_chat_model

        return check_chat_model(config.model, config.storage, config.engine.image_size)
    base, adapter = split(config.model)
    try:
        return check_adapter(adapter, base, config.storage) if adapter else check_model(base, config.storage)
    except OSError as error:
        raise explain(error, "model.adapter" if adapter else "model.path", (adapter or base).path) from error


def _check_remote(remote: RemoteConfig) -> CheckedModel:
    missing = [f"remote.{name}" for name in ("url", "model") if not getattr(remote, name)]
    if missing:
        raise UserError(
            f"engine.kind is openai, but {' and '.join(missing)} is not set: give the server's address, such as "
            "http://localhost:9000/v1, and the name of a model there"
        )
    RemoteEngine(remote, remote.image_size)
    fingerprint = hashlib.sha256(repr((remote.url, remote.model, remote.image_size)).encode()).hexdigest()
    return CheckedModel(remote.image_size, fingerprint)


def _check_form(task: VqaConfig, kind: str) -> None:
    if not task.choices and task.json_schema is None:
        return
    from uniface_ray.engine.guided import check_form, grammar_of

    try:
        # A server keeps to the form by means of its own.
        check_form(task.choices, task.json_schema) if kind != "openai" else grammar_of(task.choices, task.json_schema)
    except UserError as error:
        raise UserError(f"task.{error}") from error
