"""What a user can put right."""


class ConfigurationError(ValueError):
    """What was asked for cannot work; the message says why and what to change. Commands show it without a traceback."""
