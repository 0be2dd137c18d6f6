"""`potstill crd`: the CustomResourceDefinition."""

from controller.crd import crd_yaml


def crd() -> None:
    """Print the CustomResourceDefinition that this version of Potstill serves.

    Example: potstill crd | kubectl apply -f -
    """
    print(crd_yaml(), end="")
