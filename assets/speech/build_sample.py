"""Make the sample recording: espeak-ng says sentences full of p, b, m, w, f and v.

Run ``python assets/speech/build_sample.py`` with facetwin installed; it writes sample.wav and sample.json
(the text, and every phoneme with its time). The files are the project's own, under the project's licence.
"""

import subprocess
import sys
from pathlib import Path

TEXT = (
    "Hello, my name is Emo, and every move of my mouth is made by motors. "
    "Bob and Pam put a big pumpkin pie on the table. "
    "We were very happy to have a few warm waffles. "
    "Please be my mirror: what you see is what I move."
)


def main() -> None:
    """Write sample.wav (16 kHz, 16 bit, mono) and sample.json beside this file."""
    out = Path(__file__).resolve().parent / "sample.wav"
    speaker = [sys.executable, "-m", "facetwin.policies.espeak", "--language", "en-us", "--speed", "165"]
    subprocess.run([*speaker, "--out", str(out), TEXT], check=True)
    print(f"{out}: {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
