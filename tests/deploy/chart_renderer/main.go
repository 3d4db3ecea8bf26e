// Renders a Helm chart's templates: the same text/template and sprig that Helm uses, with its include, tpl, required, fail,
// toYaml, fromYaml, toJson and .Files. It is not Helm: no dependencies, hooks, lookups or schema (the test checks that).
//
//	render CHART-DIRECTORY VALUES.yaml RELEASE NAMESPACE
//
// prints every rendered template after a line `# Source: FILE`. Builds with Debian's Go libraries, offline:
//
//	GO111MODULE=off GOPATH=/usr/share/gocode go build -o render main.go
package main

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	"sigs.k8s.io/yaml"
)

// Files is the chart's files beside its templates, as templates see them.
type Files map[string][]byte

func (f Files) Get(name string) string { return string(f[name]) }

func (f Files) Glob(pattern string) Files {
	found := Files{}
	for name, content := range f {
		if ok, _ := path.Match(pattern, name); ok {
			found[name] = content
		}
	}
	return found
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func read(name string, into interface{}) {
	content, err := os.ReadFile(name)
	must(err)
	must(yaml.Unmarshal(content, into))
}

// collect reads a directory whole; like Helm it follows symbolic links.
func collect(root, below string, files Files) {
	entries, err := os.ReadDir(filepath.Join(root, below))
	must(err)
	for _, entry := range entries {
		name := path.Join(below, entry.Name())
		info, err := os.Stat(filepath.Join(root, name))
		must(err)
		if info.IsDir() {
			collect(root, name, files)
			continue
		}
		content, err := os.ReadFile(filepath.Join(root, name))
		must(err)
		files[name] = content
	}
}

func merge(over, under map[string]interface{}) map[string]interface{} {
	for key, value := range under {
		mine, there := over[key]
		if !there {
			over[key] = value
			continue
		}
		mineMap, isMap := mine.(map[string]interface{})
		valueMap, isMapToo := value.(map[string]interface{})
		if isMap && isMapToo {
			over[key] = merge(mineMap, valueMap)
		}
	}
	return over
}

func main() {
	if len(os.Args) != 5 {
		must(fmt.Errorf("usage: render CHART-DIRECTORY VALUES.yaml RELEASE NAMESPACE"))
	}
	root := os.Args[1]
	chart, defaults, values := map[string]interface{}{}, map[string]interface{}{}, map[string]interface{}{}
	read(filepath.Join(root, "Chart.yaml"), &chart)
	read(filepath.Join(root, "values.yaml"), &defaults)
	read(os.Args[2], &values)
	named := map[string]interface{}{}
	for key, value := range chart {
		named[strings.ToUpper(key[:1])+key[1:]] = value
	}
	files := Files{}
	collect(root, "", files)
	data := map[string]interface{}{
		"Chart":        named,
		"Values":       merge(values, defaults),
		"Release":      map[string]interface{}{"Name": os.Args[3], "Namespace": os.Args[4], "Service": "Helm", "IsInstall": true, "IsUpgrade": false, "Revision": 1},
		"Files":        files,
		"Capabilities": map[string]interface{}{"KubeVersion": map[string]interface{}{"Version": "v1.33.0", "Major": "1", "Minor": "33"}},
		"Template":     map[string]interface{}{"BasePath": path.Join(chart["name"].(string), "templates")},
	}

	all := template.New("chart").Option("missingkey=zero")
	functions := sprig.TxtFuncMap()
	delete(functions, "env")
	delete(functions, "expandenv")
	functions["include"] = func(name string, data interface{}) (string, error) {
		var out bytes.Buffer
		err := all.ExecuteTemplate(&out, name, data)
		return out.String(), err
	}
	functions["tpl"] = func(text string, data interface{}) (string, error) {
		copied, err := all.Clone()
		if err != nil {
			return "", err
		}
		parsed, err := copied.New("tpl").Parse(text)
		if err != nil {
			return "", err
		}
		var out bytes.Buffer
		err = parsed.Execute(&out, data)
		return out.String(), err
	}
	functions["required"] = func(message string, value interface{}) (interface{}, error) {
		if value == nil || value == "" {
			return value, fmt.Errorf("%s", message)
		}
		return value, nil
	}
	functions["toYaml"] = func(value interface{}) (string, error) {
		out, err := yaml.Marshal(value)
		return strings.TrimSuffix(string(out), "\n"), err
	}
	functions["fromYaml"] = func(text string) (map[string]interface{}, error) {
		found := map[string]interface{}{}
		return found, yaml.Unmarshal([]byte(text), &found)
	}
	all.Funcs(functions)

	names := []string{}
	for name := range files {
		if strings.HasPrefix(name, "templates/") {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	for _, name := range names {
		_, err := all.New(name).Parse(string(files[name]))
		must(err)
	}
	for _, name := range names {
		if strings.HasPrefix(path.Base(name), "_") {
			continue
		}
		var out bytes.Buffer
		must(all.ExecuteTemplate(&out, name, data))
		text := strings.ReplaceAll(out.String(), "<no value>", "")
		fmt.Printf("# Source: %s\n%s\n---\n", name, strings.TrimSpace(text))
	}
}
