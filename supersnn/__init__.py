"""The method: spiking students, artificial teachers, and the relational loss between them. Torch only."""
