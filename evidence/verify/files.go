package verify

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/guardbook/guardbook/evidence/layout"
)

// Limits against packages that are made to exhaust who reads them.
const (
	maxFiles    = 5_000_000
	maxTotal    = 1 << 40 // bytes, unpacked
	maxRatio    = 1100    // unpacked to packed, of one file; DEFLATE reaches 1032
	maxDescribe = 1 << 30 // bytes of a description (manifest, scope, ...)
)

// Files is a package as it lies on the disk: a folder or a zip. Nothing is
// unpacked, and no link is followed.
type Files struct {
	Where    string
	sizes    map[string]int64
	open     func(name string) (io.ReadCloser, error)
	close    func() error
	unusable []Problem // what has no place in a package
}

// OpenFiles opens a package's folder or zip.
func OpenFiles(where string) (*Files, error) {
	info, err := os.Stat(where)
	if err != nil {
		return nil, fmt.Errorf("open package: %w", err)
	}
	var f *Files
	if info.IsDir() {
		f, err = openFolder(where)
	} else {
		f, err = openZip(where)
	}
	if err != nil {
		return nil, fmt.Errorf("open package: %w", err)
	}
	f.Where = where
	return f, nil
}

func openFolder(dir string) (*Files, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	f := &Files{sizes: map[string]int64{}, close: root.Close}
	f.open = func(name string) (io.ReadCloser, error) { return root.Open(name) }
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			return nil
		case !d.Type().IsRegular():
			f.refuse(name, "is a "+kindOf(d.Type())+", not a plain file")
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return f.add(name, info.Size())
	})
	if err != nil {
		root.Close()
		return nil, err
	}
	return f, nil
}

func kindOf(m fs.FileMode) string {
	if m&fs.ModeSymlink != 0 {
		return "symbolic link"
	}
	return "special file"
}

func (f *Files) refuse(name, why string) {
	f.unusable = append(f.unusable, Problem{Code: "bad_file", File: name, Message: fmt.Sprintf("%q %s", name, why)})
}

func (f *Files) add(name string, size int64) error {
	if !layout.SafeName(name) {
		f.refuse(name, "is no name for a file of a package")
		return nil
	}
	if _, twice := f.sizes[name]; twice {
		f.refuse(name, "is there twice")
		return nil
	}
	if len(f.sizes) == maxFiles {
		return fmt.Errorf("more than %d files", maxFiles)
	}
	f.sizes[name] = size
	return nil
}

func openZip(where string) (*Files, error) {
	z, err := zip.OpenReader(where)
	if err != nil {
		return nil, err
	}
	f := &Files{sizes: map[string]int64{}, close: z.Close}
	members := map[string]*zip.File{}
	prefix, err := prefixOf(z.File)
	if err != nil {
		z.Close()
		return nil, err
	}
	var total uint64
	for _, m := range z.File {
		name, inside := strings.CutPrefix(m.Name, prefix)
		if strings.HasSuffix(m.Name, "/") && m.UncompressedSize64 == 0 && m.Mode().IsDir() {
			continue
		}
		total += m.UncompressedSize64
		switch {
		case total > maxTotal || m.UncompressedSize64 > maxTotal:
			z.Close()
			return nil, fmt.Errorf("unpacked it is larger than %d bytes", int64(maxTotal))
		case !inside:
			f.refuse(m.Name, "lies outside the package's folder")
		case !m.Mode().IsRegular():
			f.refuse(m.Name, "is a "+kindOf(m.Mode())+", not a plain file")
		case m.UncompressedSize64 > 1<<20 && m.UncompressedSize64/max(1, m.CompressedSize64) > maxRatio:
			f.refuse(m.Name, "unpacks to far more than it holds")
		default:
			if err := f.add(name, int64(m.UncompressedSize64)); err != nil {
				z.Close()
				return nil, err
			}
			if members[name] == nil {
				members[name] = m
			}
		}
	}
	f.open = func(name string) (io.ReadCloser, error) {
		m := members[name]
		if m == nil {
			return nil, fmt.Errorf("open %s: %w", name, fs.ErrNotExist)
		}
		return m.Open()
	}
	return f, nil
}

// prefixOf finds the folder of the package in a zip: where its manifest lies.
func prefixOf(members []*zip.File) (string, error) {
	best := ""
	found := false
	for _, m := range members {
		if path.Base(m.Name) == layout.Manifest && (!found || len(m.Name) < len(best)) {
			best, found = m.Name, true
		}
	}
	if !found {
		return "", errors.New("there is no manifest.json in it: that is no evidence package")
	}
	return strings.TrimSuffix(best, layout.Manifest), nil
}

// Close closes the folder or zip.
func (f *Files) Close() error { return f.close() }

// Names lists the files in order.
func (f *Files) Names() []string {
	names := make([]string, 0, len(f.sizes))
	for n := range f.sizes {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Has reports whether a file is there.
func (f *Files) Has(name string) bool { _, ok := f.sizes[name]; return ok }

// Open opens a file; no more than the size that the folder or zip states is read.
func (f *Files) Open(name string) (io.ReadCloser, error) {
	size, ok := f.sizes[name]
	if !ok {
		return nil, fmt.Errorf("open %s: %w", name, fs.ErrNotExist)
	}
	r, err := f.open(name)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(r, size+1), r}, nil
}

// Read reads a whole file of at most limit bytes.
func (f *Files) Read(name string, limit int64) ([]byte, error) {
	if size, ok := f.sizes[name]; ok && size > limit {
		return nil, fmt.Errorf("%s has %d bytes, more than %d", name, size, limit)
	}
	r, err := f.Open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s is longer than it says", name)
	}
	return b, err
}
