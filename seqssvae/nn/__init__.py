"""The networks: recurrent layers over packed rows, encoders, decoder, n-gram features."""
