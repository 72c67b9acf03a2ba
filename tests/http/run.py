#!/usr/bin/env python3
"""run.py ENGINE SOURCE_DIR TEST_MODULE...: runs these modules, of this folder or of PYTHONPATH.

Exits with 77 where all that there was to run has been skipped, as ctest is told.
"""

import os
import sys
import unittest


def main():
    os.environ["ENGINE"], os.environ["ENGINE_SOURCE_DIR"] = sys.argv[1:3]
    sys.dont_write_bytecode = True
    suite = unittest.defaultTestLoader.loadTestsFromNames(sys.argv[3:])
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    if not result.wasSuccessful() or not (result.testsRun or result.skipped):
        return 1
    return 77 if len(result.skipped) >= max(1, result.testsRun) else 0


if __name__ == "__main__":
    sys.exit(main())
