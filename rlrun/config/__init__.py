"""From composed values to a checked, frozen ``RunConfig``. No code above this package sees a DictConfig."""

from rlrun.config.conversion import (
    from_dictconfig,
    from_mapping,
    settings_of_hydra,
    signature,
    to_mapping,
    typed_overrides,
)
from rlrun.config.schema import (
    ALGORITHMS,
    AlgoConfig,
    CheckpointConfig,
    DQNConfig,
    EnvConfig,
    EvaluationConfig,
    HardwareConfig,
    LoggingConfig,
    NetworkConfig,
    PlotConfig,
    PPOConfig,
    RunConfig,
    StopConfig,
    SweepConfig,
)

__all__ = [
    "ALGORITHMS",
    "AlgoConfig",
    "CheckpointConfig",
    "DQNConfig",
    "EnvConfig",
    "EvaluationConfig",
    "HardwareConfig",
    "LoggingConfig",
    "NetworkConfig",
    "PPOConfig",
    "PlotConfig",
    "RunConfig",
    "StopConfig",
    "SweepConfig",
    "from_dictconfig",
    "from_mapping",
    "settings_of_hydra",
    "signature",
    "to_mapping",
    "typed_overrides",
]
