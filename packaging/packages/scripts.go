package packages

import (
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

//go:embed scripts
var scriptFiles embed.FS

// scriptNames are nfpm's names of the scripts, by Debian's.
var scriptNames = map[string]string{"preinst": "preinstall", "postinst": "postinstall", "prerm": "preremove", "postrm": "postremove"}

var placeholder = regexp.MustCompile(`@[A-Z]+@`)

// scripts writes the package's scripts and returns where each is, by nfpm's name.
func (l *layout) scripts() (map[string]string, error) {
	found := map[string]string{}
	for debian, name := range scriptNames {
		text, err := l.pkg.script(debian, l.version)
		if err != nil {
			return nil, err
		}
		if text == "" {
			continue
		}
		found[name] = filepath.Join(l.dir, debian)
		if err := os.WriteFile(found[name], []byte(text), 0o755); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// script is one script of a package, or nothing. The same one serves dpkg, which says in words what
// it does, and rpm, which counts the versions that will be there.
func (p pkg) script(debian, version string) (string, error) {
	values := map[string]string{"NAME": p.name, "VERSION": version}
	file := "common-" + debian
	switch {
	case p.daemon != nil:
		file = "daemon-" + debian
		values["STATE"], values["LOST"] = p.daemon.state, p.daemon.lost
		values["UNITS"] = strings.Join(p.daemon.units, " ")
		values["SERVICE"] = p.daemon.units[len(p.daemon.units)-1]
	case p.name != common:
		return "", nil
	}
	text, err := scriptFiles.ReadFile("scripts/" + file + ".sh")
	if os.IsNotExist(err) && p.daemon == nil {
		return "", nil
	} else if err != nil {
		return "", err
	}
	var unknown error
	filled := placeholder.ReplaceAllStringFunc(string(text), func(word string) string {
		value, known := values[strings.Trim(word, "@")]
		if !known {
			unknown = fmt.Errorf("%s: nothing stands for %s", file, word)
		}
		return value
	})
	return filled, unknown
}
