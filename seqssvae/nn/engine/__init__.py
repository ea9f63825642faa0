"""The loops of LSTM and GRU over time, in C where there is a compiler."""
