"""Make transformers know our model type as soon as it is there, without importing it for that."""

from types import ModuleType

from wrapt import when_imported


@when_imported("transformers.models.auto.configuration_auto")
def _register_config(module: ModuleType) -> None:
    from fewtext.nn.sequence_config import MODEL_TYPE, FewtextConfig

    module.AutoConfig.register(MODEL_TYPE, FewtextConfig, exist_ok=True)


@when_imported("transformers.models.auto.modeling_auto")
def _register_model(_module: ModuleType) -> None:
    import fewtext.nn.sequence_classifier  # noqa: F401  (registers itself)
