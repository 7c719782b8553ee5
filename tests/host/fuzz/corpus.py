"""Chooses the few files that the tree keeps of all that the fuzzer has found.

  corpus.py --fuzzer build/host/host-fuzz --keep 48 FOLDER...
  corpus.py --seeds FOLDER

Of the files of the folders and of corpus/, those are kept that run every place that any of them
runs, and then those that add most (how often a place runs, as libFuzzer counts it), small ones
first. `make fuzz` puts what it finds into build/host/fuzz/found, and begins with seeds: long random
files, the same each time.
"""

import argparse
import hashlib
import random
import subprocess
import sys
import tempfile
from pathlib import Path

FEATURES_PER_PLACE = 8  # libFuzzer has one for each order of magnitude of a place's count
MACHINES = 3
SEEDS = 24
SEED_BYTES = 1500
CORPUS = Path(__file__).resolve().parent / "corpus"


def read_features(fuzzer, files, folder):
    """{file: (places, features)}, from the control file of libFuzzer's merge (the one that leaves
    nothing out)."""
    everything = folder / "all"
    everything.mkdir()
    for index, data in enumerate(files):
        (everything / f"{index:06}").write_bytes(data)
    (folder / "empty").mkdir()
    control = folder / "control"
    subprocess.run([str(fuzzer), "-set_cover_merge=1", f"-merge_control_file={control}",
                    str(folder / "empty"), str(everything)],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    rows = control.read_text().split("\n")
    count = int(rows[0])
    names = [Path(row).name for row in rows[2:2 + count]]
    found = {}
    for row in rows[2 + count:]:
        words = row.split()
        if words and words[0] == "FT":
            features = set(map(int, words[2:]))
            places = {feature // FEATURES_PER_PLACE for feature in features}
            found[files[int(names[int(words[1])])]] = places, features
    return found


def choose(features, keep):
    """Greedily: all places first, then as many features as fit into the number of files."""
    chosen = []
    rest = dict(features)
    for which, limit in ((0, len(features)), (1, keep)):
        seen = set().union(*(features[data][which] for data in chosen))
        while rest and len(chosen) < limit:
            best = max(rest, key=lambda data: (len(rest[data][which] - seen), -len(data)))
            if not rest[best][which] - seen:
                break
            seen |= rest.pop(best)[which]
            chosen.append(best)
    return chosen


def write_seeds(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(SEEDS):
        data = bytes([seed % MACHINES]) + random.Random(seed).randbytes(SEED_BYTES)
        (folder / f"seed-{seed:02}").write_bytes(data)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=Path, help="write seeds into this folder, nothing else")
    parser.add_argument("--fuzzer", type=Path)
    parser.add_argument("--keep", type=int, default=48)
    parser.add_argument("folders", nargs="*", type=Path)
    arguments = parser.parse_args()
    if arguments.seeds:
        write_seeds(arguments.seeds)
        return 0
    CORPUS.mkdir(exist_ok=True)
    files = {path.read_bytes() for folder in arguments.folders + [CORPUS]
             for path in folder.iterdir() if path.is_file()}
    files.discard(b"")
    with tempfile.TemporaryDirectory() as folder:
        features = read_features(arguments.fuzzer.resolve(), sorted(files), Path(folder))
    chosen = choose(features, arguments.keep)
    for path in CORPUS.iterdir():
        path.unlink()
    for data in chosen:
        (CORPUS / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    print(f"{len(chosen)} of {len(files)} files, {sum(map(len, chosen))} bytes")
    return 0 if chosen else 1


if __name__ == "__main__":
    sys.exit(main())
