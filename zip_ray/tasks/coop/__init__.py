"""The data sets of CoOp's and ZIP's papers."""
