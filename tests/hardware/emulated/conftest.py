import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for parts.py; tests are not a package
