package packages

import (
	"fmt"
	"regexp"
	"time"
)

var (
	tagged   = regexp.MustCompile(`^v?([0-9]+\.[0-9]+\.[0-9]+)(?:-([0-9A-Za-z.]*[A-Za-z][0-9A-Za-z.]*))?(?:-([0-9]+)-(g[0-9a-f]+))?$`)
	untagged = regexp.MustCompile(`^[0-9a-f]{7,40}$`)
)

// Version is a release's version as packages order it: 0.3.0~rc.1 comes before 0.3.0, and
// 0.3.0+5.g1234567, five commits after it, between 0.3.0 and the next. A commit without any tag
// comes before all versions, in the order of time. Anything else is refused, because a package
// whose place in the order nobody knows can be neither updated nor kept from going back.
func Version(release string, when time.Time) (string, error) {
	if m := tagged.FindStringSubmatch(release); m != nil {
		v := m[1]
		if m[2] != "" {
			v += "~" + m[2]
		}
		if m[3] != "" {
			v += "+" + m[3] + "." + m[4]
		}
		return v, nil
	}
	if untagged.MatchString(release) {
		return "0~" + when.UTC().Format("20060102150405") + ".g" + release, nil
	}
	return "", fmt.Errorf("the version %q has no place in the order of packages: want v1.2.3, v1.2.3-rc.1, what git describe makes of these, or a commit", release)
}
