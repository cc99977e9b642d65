from kedge_repo.demo.story import Act as Act
from kedge_repo.demo.story import Line as Line
from kedge_repo.demo.story import Report as Report
from kedge_repo.demo.story import tell as tell
