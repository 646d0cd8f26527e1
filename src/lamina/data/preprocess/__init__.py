"""Steps that are fitted on the training split and travel with the model; `lamina.data.preprocessing` chains them."""
