# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=3000 venv=venv-keras2
"""Every model in every form, both ways, with Keras 2.15, which reads the legacy .h5 forms."""
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
sys.path.insert(0, os.path.join(os.environ["ATOLL_SOURCE"], "tests", "support"))

import keras_forms

if __name__ == "__main__":
    assert not keras_forms.KERAS3
    sys.exit(keras_forms.main())
