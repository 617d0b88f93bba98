"""What several methods share: chains, Gaussians, dropout, and the predictive of weight samples."""
