"""What can go wrong, and how a run answers it."""


class UniFaceError(Exception):
    """An error with a message for the user and an exit code for the shell."""

    exit_code = 1


class UserError(UniFaceError):
    """The user's mistake; the message names the setting, the value given, the rule and the mend."""

    exit_code = 2


class StoppedError(UniFaceError):
    """The run stopped itself (reject limit, storage); the same command resumes it."""

    exit_code = 3


class SinkInUseError(UniFaceError):
    """Another run is writing to the sink."""

    exit_code = 4


class BrokenProcessError(UniFaceError):
    """This process can do nothing more (say, its GPU has failed); a new one may."""
