package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// licenceName is how projects call the files that a copy of their code must carry.
var licenceName = regexp.MustCompile(`(?i)^(licen[cs]e|copying|copyright|notice|patents)([.-][a-z0-9.-]*)?$`)

// notices is the text of every licence that the programs' code is under: their authors ask
// that each copy carries it. A module without one is an error, because then nobody may pass
// the programs on.
func (b *built) notices() ([]byte, error) {
	var text bytes.Buffer
	text.WriteString("The programs of Anchorhold contain code of the projects below, under the licences that follow each name.\n")
	if err := addLicences(&text, "Go "+strings.TrimPrefix(b.programs[0].info.GoVersion, "go"), b.goRoot, []string{b.goRoot}); err != nil {
		return nil, err
	}
	dirs := map[string][]string{} // of each module: the directories that code is linked from
	for _, p := range b.packages {
		dirs[p.module] = append(dirs[p.module], above(p.moduleDir, p.dir)...)
	}
	for _, m := range b.modules() {
		i := slices.IndexFunc(b.packages, func(p linkedPackage) bool { return p.module == m.Path && p.version == m.Version })
		if i < 0 {
			return nil, fmt.Errorf("%s %s is linked, but go list does not name it", m.Path, m.Version)
		}
		if err := addLicences(&text, m.Path+" "+m.Version, b.packages[i].moduleDir, dirs[m.Path]); err != nil {
			return nil, err
		}
	}
	return text.Bytes(), nil
}

// above lists the directories from a package's up to its module's.
func above(module, dir string) (list []string) {
	for ; dir != module && strings.HasPrefix(dir, module); dir = filepath.Dir(dir) {
		list = append(list, dir)
	}
	return append(list, module)
}

// addLicences adds the licence files in the directories of one project.
func addLicences(text *bytes.Buffer, title, root string, dirs []string) error {
	slices.Sort(dirs)
	found := 0
	for _, dir := range slices.Compact(dirs) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if !e.Type().IsRegular() || !licenceName.MatchString(e.Name()) {
				continue
			}
			data, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(root, filepath.Join(dir, e.Name()))
			if err != nil {
				return err
			}
			fmt.Fprintf(text, "\n%[1]s\n%[2]s, %[3]s\n%[1]s\n\n%[4]s\n", strings.Repeat("=", 80), title, filepath.ToSlash(rel), bytes.TrimSpace(data))
			found++
		}
	}
	if found == 0 {
		return fmt.Errorf("%s has no licence file", title)
	}
	return nil
}
