"""What every group of settings is."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """One group of settings: unknown ones are refused, and nothing changes once it is made."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
