"""The readout: fitted to class scores, with its strength chosen by cross-validation; folded into class features."""
