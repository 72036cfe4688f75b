"""The data sets that Paceline reads: what they are, their licences, sizes and hashes, and where they are published.

Every size and hash is of the publishers' own raw files. The hashes of the downloads are the published ones.
"""

from __future__ import annotations

from bench.data.archive import DataArchive
from bench.data.dataset import DataSet, Download
from bench.data.files import DataError, DataFile
from bench.settings import nearest


def _idx(sizes_and_hashes: dict[str, tuple[int, str]]) -> tuple[DataFile, ...]:
    return tuple(
        DataFile(name=name, size=size, digests=(f"sha256:{sha256}",))
        for name, (size, sha256) in sizes_and_hashes.items()
    )


def _gzips(urls: tuple[str, ...], md5: dict[str, str]) -> tuple[Download, ...]:
    return tuple(
        Download(
            urls=tuple(f"{url}/{name}.gz" for url in urls), digest=f"md5:{value}", saved_as=f"{name}.gz", gives=(name,)
        )
        for name, value in md5.items()
    )


MNIST = DataSet(
    name="mnist",
    title="MNIST",
    what="60 000 + 10 000 handwritten digits, 28x28 grey, 10 classes",
    licence="CC BY-SA 3.0",
    homepage="http://yann.lecun.com/exdb/mnist/",
    folders=("mnist", "MNIST/raw"),
    files=_idx(
        {
            "train-images-idx3-ubyte": (
                47_040_016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            ),
            "train-labels-idx1-ubyte": (60_008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
            "t10k-images-idx3-ubyte": (7_840_016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
            "t10k-labels-idx1-ubyte": (10_008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
        }
    ),
    downloads=_gzips(
        ("https://ossci-datasets.s3.amazonaws.com/mnist", "http://yann.lecun.com/exdb/mnist"),
        {
            "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
            "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
            "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
        },
    ),
)  # fmt: skip

FASHION_MNIST = DataSet(
    name="fashion-mnist",
    title="Fashion-MNIST",
    what="60 000 + 10 000 articles of clothing, 28x28 grey, 10 classes",
    licence="MIT",
    homepage="https://github.com/zalandoresearch/fashion-mnist",
    folders=("fashion-mnist", "FashionMNIST/raw"),
    files=_idx(
        {
            "train-images-idx3-ubyte": (
                47_040_016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            ),
            "train-labels-idx1-ubyte": (60_008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
            "t10k-images-idx3-ubyte": (7_840_016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
            "t10k-labels-idx1-ubyte": (10_008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
        }
    ),
    downloads=_gzips(
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",),
        {
            "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
            "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
            "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
        },
    ),
)  # fmt: skip

_CIFAR10_SHA256 = {
    "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}

CIFAR10 = DataSet(
    name="cifar10",
    title="CIFAR-10 (binary version)",
    what="5 x 10 000 + 10 000 photographs, 32x32 colour, 10 classes",
    licence="none stated; made for research",
    homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
    folders=("cifar-10-batches-bin", "cifar10/cifar-10-batches-bin", "cifar10"),
    files=tuple(
        DataFile(name=name, size=30_730_000, digests=(f"sha256:{sha256}",)) for name, sha256 in _CIFAR10_SHA256.items()
    ),
    downloads=(
        Download(
            urls=("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
            digest="md5:c32a1d4ab5d03f1284b67883e8d87530",
            saved_as="cifar-10-binary.tar.gz",
            gives=tuple(_CIFAR10_SHA256),
            unpack=True,
        ),
    ),
)

# The publisher's archive (wikitext-2-v1.zip) has lost its address; these are its three files, unchanged.
_WIKITEXT2 = (
    "https://raw.githubusercontent.com/pytorch/examples/37ce9402ff0cae48d764d7788810fd2ed8238b25"
    "/word_language_model/data/wikitext-2"
)

WIKITEXT2 = DataSet(
    name="wikitext2",
    title="WikiText-2",
    what="2 088 628 + 217 646 + 245 569 words of good Wikipedia articles, 33 278 different ones, with <unk>",
    licence="CC BY-SA 3.0",
    homepage="https://arxiv.org/abs/1609.07843 (Merity et al. 2016), mirrored in github.com/pytorch/examples",
    folders=("wikitext2", "wikitext-2", "WikiText2/wikitext-2"),
    files=(
        DataFile(
            name="train.txt",
            size=10_797_148,
            # The published order of the articles first; then the same lines in any order, as some copies have them.
            digests=(
                "sha1:863f29c46ef9d167fff4940ec821195882fe29d1",
                "lines:ceb07e5c60b8443f5bac85fae2607a570f30cce603b18b5ea2bcac566a35ab50",
            ),
            aliases=("wiki.train.tokens",),
        ),
        DataFile(
            name="valid.txt",
            size=1_121_681,
            digests=("sha256:f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",),
            aliases=("wiki.valid.tokens",),
        ),
        DataFile(
            name="test.txt",
            size=1_256_449,
            digests=("sha256:d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",),
            aliases=("wiki.test.tokens",),
        ),
    ),
    downloads=tuple(
        Download(urls=(f"{_WIKITEXT2}/{name}",), digest=digest, saved_as=name, gives=(name,))
        for name, digest in (
            ("train.txt", "sha1:863f29c46ef9d167fff4940ec821195882fe29d1"),
            ("valid.txt", "sha256:f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8"),
            ("test.txt", "sha256:d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0"),
        )
    ),
)

_FSDD_ARCHIVES = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive"

FSDD = DataSet(
    name="fsdd",
    title="Free Spoken Digit Dataset",
    what="3 000 spoken digits: 6 speakers x 10 digits x 50, 8 kHz",
    licence="CC BY-SA 4.0",
    homepage="https://github.com/Jakobovski/free-spoken-digit-dataset",
    folders=("fsdd", "free-spoken-digit-dataset"),
    files=(
        DataArchive(
            name="recordings",
            count=3000,
            size=21_128_848,
            digests=("sha256:997e451901d158bdf09dde66b240f3f19310fdbf4d9c056ebd806254df4a672c",),
        ),
    ),
    downloads=(
        Download(
            urls=(
                f"{_FSDD_ARCHIVES}/26eb9aaf76e81b692f806f9140c2d2777410d7a1.tar.gz",
                f"{_FSDD_ARCHIVES}/refs/tags/v1.0.10.tar.gz",
            ),
            digest="",  # packed anew at each request
            saved_as="free-spoken-digit-dataset.tar.gz",
            gives=("recordings",),
        ),
    ),
)

_LIBSVM = "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/binary"

A9A = DataSet(
    name="a9a",
    title="a9a (UCI Adult)",
    what="32 561 + 16 281 people, 123 binary features, 2 classes of income",
    licence="CC BY 4.0",
    homepage=f"{_LIBSVM}.html",
    folders=("a9a",),
    files=(
        DataFile(
            name="a9a",
            size=2_327_314,
            digests=("sha256:7ba53cccb27e2e525f0fb173e1f446d49856e3fb007eb43be4ec6d0f5b3335ca",),
        ),
        DataFile(
            name="a9a.t",
            size=1_164_628,
            digests=("sha256:1f448a153f0320399a7e40836eb207655b0bde0f21fc941cc472193daa9f5de9",),
        ),
    ),
    downloads=tuple(
        Download(urls=(f"{_LIBSVM}/{name}",), digest="", saved_as=name, gives=(name,)) for name in ("a9a", "a9a.t")
    ),
)

SETS = {each.name: each for each in (MNIST, FASHION_MNIST, CIFAR10, WIKITEXT2, FSDD, A9A)}


def dataset(name: str) -> DataSet:
    """The data set of this name.

    Raises:
        DataError: there is none.
    """
    if name not in SETS:
        raise DataError(f"unknown data set: got {name!r}{nearest(name, SETS)}")
    return SETS[name]
