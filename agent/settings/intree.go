package settings

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/identity"
)

// ReadTree reads a configuration as it lies below a directory, under its path in the guest. A link to what is not there is no error, as
// in [Config.CheckTree]: there is a notice, and nothing was read.
func ReadTree(root, path string) (c Config, f Findings, read bool, err error) {
	if _, err := os.Lstat(filepath.Join(root, filepath.Join("/", path))); err != nil {
		return c, f, false, fmt.Errorf("read configuration: %w", err)
	}
	at := inTree(root, "the configuration", path, &f)
	if at == "" {
		return c, f, false, nil
	}
	c, f, err = Read(at)
	return c, f, true, err
}

// CheckTree checks the files that a configuration names as they lie below a directory: those of an image that is not
// built yet. A file that is there and wrong is an error. One that is not there is a notice: a package may bring it, or
// a disk of the guest. Of the machine nothing is asked.
func (c Config) CheckTree(root string) Findings {
	var f Findings
	c = c.below(root, &f)
	c.checkTrust(&f)
	c.checkServed(&f)
	return f
}

// below is the configuration with the paths of what is in the tree, and without those that are not.
func (c Config) below(root string, f *Findings) Config {
	in := func(field, path string) string { return inTree(root, field, path, f) }
	c.Broker.TLSRoots = in("broker.tls_roots", c.Broker.TLSRoots)
	c.Federation.TLSRoots = in("federation.tls_roots", c.Federation.TLSRoots)
	c.Proofs.Keys = in("proofs.keys", c.Proofs.Keys)
	var roots []string
	for _, entry := range c.Broker.RootKeys {
		if entry = in("broker.root_keys", entry); entry != "" {
			roots = append(roots, entry)
		}
	}
	c.Broker.RootKeys = roots
	c.Models, c.Classifiers = append([]Model{}, c.Models...), append([]Classifier{}, c.Classifiers...)
	for i := range c.Models {
		m, field := &c.Models[i], fmt.Sprintf("models[%d]", i)
		m.Path, m.Publisher = in(field+".path", m.Path), in(field+".publisher", m.Publisher)
	}
	for i := range c.Classifiers {
		m, field := &c.Classifiers[i], fmt.Sprintf("classifiers[%d]", i)
		m.Path, m.Publisher = in(field+".path", m.Path), in(field+".publisher", m.Publisher)
	}
	return c
}

// maxLinks is how many links from a file to the next one are followed.
const maxLinks = 8

// named is the path that a path's own links lead to, with a tree as the root of absolute ones, as it is in the guest.
func named(base, path string) string {
	path = filepath.Join("/", path)
	for range maxLinks {
		to, err := os.Readlink(filepath.Join(base, path))
		if err != nil {
			break // no link
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(path), to)
		}
		path = filepath.Join("/", to)
	}
	return path
}

// inTree is where a file of the guest lies; empty if it does not lie there. What is no path, such as a key in its text
// form, stays. Links that lead out of the tree are not followed: they would show a file of this machine.
func inTree(root, field, path string, f *Findings) string {
	var key identity.Public
	if path == "" || key.UnmarshalText([]byte(path)) == nil {
		return path
	}
	base, err := filepath.EvalSymlinks(root)
	if err != nil {
		f.errorf("%s: %v", field, err)
		return ""
	}
	at, err := filepath.EvalSymlinks(filepath.Join(base, named(base, path)))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.noticef("%s: %s is not below %s: a package must bring it, or a disk of the guest", field, path, root)
	case err != nil:
		f.errorf("%s: %v", field, err)
	case at != base && !strings.HasPrefix(at, strings.TrimSuffix(base, "/")+string(os.PathSeparator)):
		f.noticef("%s: %s is a link that leads out of %s, and was not checked", field, path, root)
	default:
		info, err := os.Stat(at)
		if err == nil && (info.Mode().IsRegular() || info.IsDir()) {
			return at
		}
		f.errorf("%s: %s is neither a file nor a directory", field, path) // a pipe would be waited for
	}
	return ""
}
