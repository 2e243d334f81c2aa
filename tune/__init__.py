"""The search: arms, studies, trials on Ray, tracking, verification and export."""
