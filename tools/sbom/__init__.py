"""Lists what wheel and images consist of as CycloneDX, and checks the licences."""
