"""`potstill crd`: the CustomResourceDefinition."""

import yaml

from controller.crd import experiment_crd


def crd() -> None:
    """Print the CustomResourceDefinition that this version of Potstill serves."""
    print(yaml.safe_dump(experiment_crd(), sort_keys=False, width=120), end="")
